#include "tests/fuzz/codec_fuzz.h"

#include <algorithm>

#include "transfer/base/check.h"
#include "transfer/protocol/codec.h"

namespace baton {

bool fuzz_codec(const uint8_t* data, size_t size) {
  using namespace protocol;
  const auto frame = std::as_bytes(std::span(data, size));
  const auto header = decode_header(frame);
  if (!header.ok()) {
    BATON_CHECK(header.status().code() == Code::kProtocol, header.status().to_string());
    return false;
  }
  const auto payload = frame.subspan(kFrameHeaderBytes);
  const auto message = decode(*header, payload);
  if (!message.ok()) {
    BATON_CHECK(message.status().code() == Code::kProtocol, message.status().to_string());
    return false;
  }
  const auto again = encode(*message);
  BATON_CHECK(again.ok(), again.status().to_string());
  BATON_CHECK(std::ranges::equal(*again, frame), "a frame has one encoding");
  return true;
}

}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  baton::fuzz_codec(data, size);
  return 0;
}
