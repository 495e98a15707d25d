// The scatter kernel's body: payload into blocks, one unit at a time (segment_device.h). A unit is
// loaded once; what is summed and what is stored is that load.
#pragma once

#include "kernels/segment_device.h"

namespace baton {

struct ScatterBody {
  BATON_HD static Unit unit(const DeviceSegment& s, uint32_t offset, uint32_t bytes) {
    Unit unit;
    if (bytes == kUnitBytes && unit_aligned(s.payload)) {
      unit = load_unit(s.payload + offset);
    } else {
      for (uint32_t i = 0; i < bytes; ++i) put_byte(unit, i, s.payload[offset + i]);
    }
    Place place = locate(s, offset);
    if (bytes == kUnitBytes && place.bytes >= kUnitBytes && unit_aligned(place.at)) {
      if (place.at != nullptr) store_unit(place.at, unit);
      return unit;
    }
    for (uint32_t i = 0; i < bytes; ++i) {
      if (place.bytes == 0) place = locate(s, offset + i);
      if (place.at != nullptr) *place.at++ = get_byte(unit, i);
      --place.bytes;
    }
    return unit;
  }
};

}  // namespace baton
