#include "transfer/tcp/runs.h"

#include <algorithm>

#include "kernels/segment_plan.h"
#include "transfer/base/check.h"

namespace baton::tcp {

Runs::Runs(std::span<std::byte> bytes) : bytes_(bytes.size()) {
  pieces_.push_back({bytes.data(), bytes.size()});
}

Runs::Runs(const SegmentPlace& place) {
  const SegmentPlan plan = make_plan(place.blocks, place.order, 0);
  bytes_ = plan.bytes();
  for_each_run(plan, place.blocks.base, place.blocks.blocks, [this](const Run& run) {
    BATON_CHECK(run.at != nullptr, "every byte of the segment has a place");
    if (!pieces_.empty() &&
        static_cast<std::byte*>(pieces_.back().iov_base) + pieces_.back().iov_len == run.at) {
      pieces_.back().iov_len += run.bytes;
    } else {
      pieces_.push_back({run.at, run.bytes});
    }
  });
}

uint64_t RunCursor::list(const Runs& runs, uint64_t bytes, size_t room,
                         std::vector<iovec>& out) const {
  const std::span<const iovec> pieces = runs.pieces();
  uint64_t listed = 0;
  size_t offset = offset_;
  for (size_t i = piece_; i < pieces.size() && listed < bytes && room > 0; ++i, --room) {
    const uint64_t length = std::min<uint64_t>(pieces[i].iov_len - offset, bytes - listed);
    out.push_back({static_cast<std::byte*>(pieces[i].iov_base) + offset, length});
    listed += length;
    offset = 0;
  }
  return listed;
}

void RunCursor::advance(const Runs& runs, uint64_t bytes) {
  position_ += bytes;
  offset_ += bytes;
  const std::span<const iovec> pieces = runs.pieces();
  while (piece_ < pieces.size() && offset_ >= pieces[piece_].iov_len) {
    offset_ -= pieces[piece_].iov_len;
    ++piece_;
  }
}

void RunCursor::sum(const Runs& runs, uint64_t end, ChecksumPass& pass) {
  const std::span<const iovec> pieces = runs.pieces();
  while (position_ < end) {
    const iovec& piece = pieces[piece_];
    const uint64_t length = std::min<uint64_t>(piece.iov_len - offset_, end - position_);
    const bool more = piece_ + 1 < pieces.size();
    pass.add(static_cast<const std::byte*>(piece.iov_base) + offset_, length,
             more ? static_cast<const std::byte*>(pieces[piece_ + 1].iov_base) : nullptr);
    advance(runs, length);
  }
}

}  // namespace baton::tcp
