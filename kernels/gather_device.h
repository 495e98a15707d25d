// The gather kernel's body: blocks into payload, one unit at a time (worker_device.h).
#pragma once

#include "kernels/worker_device.h"

namespace baton {

struct GatherBody {
  BATON_HD static Unit load(const DeviceSegment& s, uint32_t offset, uint32_t bytes) {
    Place place = locate(s, offset);
    Unit unit;
    if (bytes == kUnitBytes && place.bytes >= kUnitBytes && unit_aligned(place.at)) {
      if (place.at != nullptr) unit = load_unit(place.at);
      return unit;
    }
    for (uint32_t i = 0; i < bytes; ++i) {
      if (place.bytes == 0) place = locate(s, offset + i);
      if (place.at != nullptr) put_byte(unit, i, *place.at++);
      --place.bytes;
    }
    return unit;
  }

  BATON_HD static void store(const DeviceSegment& s, uint32_t offset, uint32_t bytes,
                             const Unit& unit) {
    if (bytes == kUnitBytes && unit_aligned(s.payload)) {
      store_unit(s.payload + offset, unit);
    } else {
      for (uint32_t i = 0; i < bytes; ++i) s.payload[offset + i] = get_byte(unit, i);
    }
  }
};

}  // namespace baton
