// Writes the codec's seed corpus: codec_corpus FOLDER. To be run when the format changes.
#include <cstdio>
#include <fstream>

#include "tests/transfer/protocol/fixtures.h"
#include "tests/transfer/protocol/random_messages.h"
#include "transfer/protocol/codec.h"

namespace baton::protocol {
namespace {

void write_seed(const std::string& folder, const Message& message, const std::string& suffix) {
  const auto frame = encode(message);
  BATON_CHECK(frame.ok(), frame.status().to_string());
  if (frame->size() > 1024) return;  // small seeds are mutated more to the point
  std::ofstream file(folder + "/" + message_name(message) + suffix, std::ios::binary);
  file.write(reinterpret_cast<const char*>(frame->data()),
             static_cast<std::streamsize>(frame->size()));
}

}  // namespace
}  // namespace baton::protocol

int main(int argc, char** argv) {
  using namespace baton::protocol;
  if (argc != 2) {
    std::fputs("usage: codec_corpus FOLDER\n", stderr);
    return 2;
  }
  const Offer offer = some_offer(40, 2, {some_group(0, 2), some_group(1, 3)});
  for (const Message& message : one_of_each(offer)) write_seed(argv[1], message, "");
  // A random HELLO is often too long to be a seed.
  write_seed(argv[1],
             Hello{.node = "127.0.0.1:9001",
                   .incarnation = {5},
                   .fingerprint = {.model = "model@1", .dtype = "float32", .layers = 2},
                   .chunk_tokens = 64,
                   .local_socket = "baton",
                   .channel_nonce = 6,
                   .tcp_port = 9002,
                   .ucx_address = "ucx",
                   .ucx_transports = "tcp",
                   .has_token = true,
                   .challenge = {1, 2, 3}},
             "");
  write_seed(argv[1], Heartbeat{7}, "");
  write_seed(argv[1], Auth{.proof = {1, 2, 3}}, "");
  std::mt19937_64 random(6);
  for (size_t type = 0; type < std::variant_size_v<Message>; ++type) {
    for (int i = 1; i <= 2; ++i) {
      write_seed(argv[1], random_message(type, random), "-" + std::to_string(i));
    }
  }
}
