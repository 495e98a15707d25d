#include "transfer/ucx/incoming.h"

#include <algorithm>
#include <new>
#include <string>

#include "transfer/protocol/messages.h"

namespace baton::ucx {

ReceiveMemory::Block ReceiveMemory::take(size_t bytes) {
  const auto found = std::find_if(blocks_.begin(), blocks_.end(),
                                  [&](const Block& block) { return block.bytes >= bytes; });
  if (found == blocks_.end())
    return {std::unique_ptr<std::byte[]>(new (std::nothrow) std::byte[bytes]), bytes};
  Block block = std::move(*found);
  blocks_.erase(found);
  kept_bytes_ -= block.bytes;
  return block;
}

void ReceiveMemory::give_back(Block block) {
  if (!block.data || kept_bytes_ + block.bytes > keep_bytes_) return;
  kept_bytes_ += block.bytes;
  blocks_.push_back(std::move(block));
}

Result<Incoming::Place> Incoming::take(const Piece& piece, size_t bytes) {
  const SegmentHeader& header = piece.header;
  const auto wrong = [&](const std::string& what) {
    return Status(Code::kProtocol, "ucx channel: segment " + std::to_string(header.segment) +
                                       " of " + std::to_string(header.bytes) + " bytes: " + what);
  };
  if (header.bytes == 0 || header.bytes > protocol::kMaxSegmentBytes) return wrong("its size");
  if (bytes == 0 || piece.offset > header.bytes || bytes > header.bytes - piece.offset)
    return wrong("a piece of " + std::to_string(bytes) + " at " + std::to_string(piece.offset));
  auto& segment = partial_[piece.sequence];
  if (!segment) {
    if (charge(header.bytes) > max_unconsumed_ - charged_) {
      partial_.erase(piece.sequence);
      return wrong("more than may be unconsumed");
    }
    charged_ += charge(header.bytes);
    segment = std::make_shared<PartialSegment>();
    segment->header = header;
  }
  if (segment->header.handoff != header.handoff || segment->header.segment != header.segment ||
      segment->header.bytes != header.bytes)
    return wrong("its pieces disagree");
  if (bytes > header.bytes - segment->claimed) return wrong("more pieces than bytes");
  segment->claimed += bytes;
  return Place{bytes == header.bytes, segment};
}

void Incoming::consumed(uint64_t bytes) {
  charged_ -= charge(bytes);
  consumed_total_ += charge(bytes);
}

void Incoming::drop(const HandoffAttempt& handoff) {
  for (auto& [sequence, segment] : partial_)
    if (segment->header.handoff == handoff) segment->dropped = true;
}

}  // namespace baton::ucx
