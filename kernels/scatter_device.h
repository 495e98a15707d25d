// The scatter kernel's body: payload into blocks, one unit at a time (worker_device.h). A unit is
// loaded once; what is summed and what is stored is that load.
#pragma once

#include "kernels/worker_device.h"

namespace baton {

struct ScatterBody {
  BATON_HD static Unit load(const DeviceSegment& s, uint32_t offset, uint32_t bytes) {
    if (bytes == kUnitBytes && unit_aligned(s.payload)) return load_unit(s.payload + offset);
    Unit unit;
    for (uint32_t i = 0; i < bytes; ++i) put_byte(unit, i, s.payload[offset + i]);
    return unit;
  }

  BATON_HD static void store(const DeviceSegment& s, uint32_t offset, uint32_t bytes,
                             const Unit& unit) {
    Place place = locate(s, offset);
    if (bytes == kUnitBytes && place.bytes >= kUnitBytes && unit_aligned(place.at)) {
      if (place.at != nullptr) store_unit(place.at, unit);
      return;
    }
    for (uint32_t i = 0; i < bytes; ++i) {
      if (place.bytes == 0) place = locate(s, offset + i);
      if (place.at != nullptr) *place.at++ = get_byte(unit, i);
      --place.bytes;
    }
  }
};

}  // namespace baton
