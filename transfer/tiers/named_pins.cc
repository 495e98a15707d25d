#include "transfer/tiers/named_pins.h"

namespace baton {
namespace {

constexpr size_t kMaxNameBytes = 256;

size_t bytes_of(const std::vector<HostTier::Pin>& pins) {
  size_t bytes = 0;
  for (const HostTier::Pin& pin : pins) bytes += pin.chunk().slot.bytes().size();
  return bytes;
}

}  // namespace

Status HostTier::NamedPins::keep(const std::string& name, std::vector<Pin> pins, TimePoint until) {
  if (name.empty() || name.size() > kMaxNameBytes)
    return Status(Code::kInvalidArgument, "a pin's name has " + std::to_string(name.size()) +
                                              " bytes: expected 1 to " +
                                              std::to_string(kMaxNameBytes));
  const auto old = names_.find(name);
  if (old == names_.end() && names_.size() >= max_names_)
    return Status(Code::kResourceExhausted, "host tier: " + std::to_string(names_.size()) +
                                                " names are pinned, as many as there may be");
  const size_t bytes = bytes_of(pins);
  const size_t others = bytes_ - (old == names_.end() ? 0 : old->second.bytes);
  if (bytes > max_bytes_ || others > max_bytes_ - bytes)
    return Status(Code::kResourceExhausted, "host tier: " + std::to_string(bytes) +
                                                " bytes beside " + std::to_string(others) +
                                                " pinned by name are more than the " +
                                                std::to_string(max_bytes_) + " that may be");
  drop(name);
  bytes_ += bytes;
  ends_.emplace(until, name);
  names_[name] = {std::move(pins), until, bytes};
  return ok_status();
}

bool HostTier::NamedPins::drop(const std::string& name) {
  const auto found = names_.find(name);
  if (found == names_.end()) return false;
  bytes_ -= found->second.bytes;
  ends_.erase({found->second.until, name});
  release(found->second.pins);
  names_.erase(found);
  return true;
}

size_t HostTier::NamedPins::expire(TimePoint now) {
  size_t expired = 0;
  for (; !ends_.empty() && ends_.begin()->first <= now; ++expired)
    drop(std::string(ends_.begin()->second));
  return expired;
}

void HostTier::NamedPins::drop_erased() {
  for (auto& [name, kept] : names_) {
    std::erase_if(kept.pins, [](const Pin& pin) { return !pin.listed(); });
    bytes_ -= kept.bytes;
    kept.bytes = bytes_of(kept.pins);
    bytes_ += kept.bytes;
  }
}

}  // namespace baton
