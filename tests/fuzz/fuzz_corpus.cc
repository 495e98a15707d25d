// Writes the seed corpora that are made of code: fuzz_corpus FOLDER. To be run when a format
// changes. (Those of corpus/http are written by hand.)
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "tests/examples/gguf_writer.h"
#include "tests/transfer/protocol/fixtures.h"
#include "tests/transfer/protocol/random_messages.h"
#include "transfer/protocol/codec.h"

namespace baton {
namespace {

using namespace protocol;
using reference::GgufType;
using reference::GgufWriter;

constexpr size_t kMaxSeedBytes = 1024;  // small seeds are mutated more to the point

class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  void write(const std::string& name, std::string_view bytes) const {
    if (bytes.size() > kMaxSeedBytes) return;
    std::ofstream file(path_ + "/" + name, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  std::string path_;
};

std::string frame_of(const Message& message) {
  const auto frame = encode(message);
  BATON_CHECK(frame.ok(), frame.status().to_string());
  return {reinterpret_cast<const char*>(frame->data()), frame->size()};
}

Hello some_hello() {
  Hello hello;
  hello.node = "127.0.0.1:7001";
  hello.incarnation = {2};
  hello.fingerprint.model = "model";
  hello.fingerprint.dtype = "float16";
  hello.chunk_tokens = 256;
  hello.local_socket = "baton-1";
  hello.channel_nonce = 3;
  hello.tcp_port = 7002;
  hello.ucx_address = std::string("\0\1\2\377", 4);
  hello.ucx_transports = "tcp,posix";
  return hello;
}

void write_codec(const Folder& folder) {
  const Offer offer = some_offer(40, 2, {some_group(0, 2), some_group(1, 3)});
  for (const Message& message : one_of_each(offer)) {
    folder.write(message_name(message), frame_of(message));
  }
  folder.write("HELLO", frame_of(some_hello()));
  folder.write("HEARTBEAT", frame_of(Heartbeat{7}));
  std::mt19937_64 random(6);
  for (size_t type = 0; type < std::variant_size_v<Message>; ++type) {
    for (int i = 1; i <= 2; ++i) {
      const Message message = random_message(type, random);
      folder.write(message_name(message) + ("-" + std::to_string(i)), frame_of(message));
    }
  }
}

// The first byte says how many bytes come at once, less one.
void write_control(const Folder& folder) {
  const Offer offer = some_offer(40, 2);
  const HandoffAttempt h = offer.handoff;
  const std::string hello = frame_of(some_hello());
  Hello other = some_hello();
  other.fingerprint.model = "another model \x1b[31m";
  std::string sender = hello, receiver = hello;
  for (const Message& message : std::initializer_list<Message>{
           Heartbeat{1}, Queued{h}, offer, Sent{h, 1, false}, Sent{h, 6, true, 5, 6},
           Failed{h, Code::kInternal, "broken"}, Drained{h}, Miss{h}}) {
    sender += frame_of(message);
  }
  for (const Message& message : std::initializer_list<Message>{
           Heartbeat{1}, Fetch{h, offer.tokens, 7, offer.keys, 1000}, some_accept(offer),
           ack_of({0, 1}), Resend{h, {2}}, Commit{h}, Cancel{h, "stop"},
           Refuse{h, RefuseReason::kNoRoom, "full"}}) {
    receiver += frame_of(message);
  }
  folder.write("of-a-sender", "\xff" + sender);
  folder.write("of-a-sender-in-small-pieces", "\x06" + sender);
  folder.write("of-a-receiver", "\xff" + receiver);
  folder.write("of-a-receiver-byte-by-byte", std::string(1, '\0') + receiver);
  folder.write("hello-of-another-model", "\xff" + frame_of(other) + frame_of(Heartbeat{1}));
  folder.write("hello-cut-short", "\x20" + hello.substr(0, hello.size() / 2));
  folder.write("hello-then-garbage", "\x20" + hello + "GET / HTTP/1.1\r\n\r\n");
  folder.write("heartbeats-only", "\x03" + frame_of(Heartbeat{1}) + frame_of(Heartbeat{2}));
  // From a stranger 16 KiB are too much; from one who was let in they are waited for.
  const std::string large("B\1\1\0\1\100\0\0", 8);
  folder.write("large-frame-of-a-stranger", "\x20" + large);
  folder.write("large-frame-of-a-peer", "\x20" + hello + large);
  folder.write("http-on-the-port", "\x40GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  folder.write("nothing", "\x01");
}

GgufWriter some_model() {
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  writer.add_u32("llama.block_count", 1);
  writer.add_u32("llama.embedding_length", 32);
  writer.add_u32("llama.feed_forward_length", 32);
  writer.add_u32("llama.attention.head_count", 2);
  writer.add_u32("llama.attention.head_count_kv", 1);
  writer.add_u32("llama.context_length", 64);
  writer.add_u32("llama.vocab_size", 4);
  writer.add_float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  writer.add_float("llama.rope.freq_base", 10000.0f);
  return writer;
}

void add_tokenizer(GgufWriter& writer) {
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_string("tokenizer.ggml.pre", "smollm");
  writer.add_strings("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "<s>"});
  writer.add_numbers<int32_t>("tokenizer.ggml.token_type", GgufType::kInt32,
                              std::vector<int32_t>{1, 1, 1, 3});
  writer.add_strings("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  writer.add_u32("tokenizer.ggml.bos_token_id", 3);
  writer.add_u32("tokenizer.ggml.eos_token_id", 3);
}

void write_gguf(const Folder& folder) {
  GgufWriter empty;
  folder.write("empty", empty.finish());
  GgufWriter second;
  second.version = 2;
  second.add_string("x", "y");
  folder.write("version-2", second.finish());
  GgufWriter scalars;
  scalars.add_scalar<uint8_t>("u8", GgufType::kUint8, 1);
  scalars.add_scalar<int8_t>("i8", GgufType::kInt8, -1);
  scalars.add_scalar<uint16_t>("u16", GgufType::kUint16, 1);
  scalars.add_scalar<int16_t>("i16", GgufType::kInt16, -1);
  scalars.add_scalar<int32_t>("i32", GgufType::kInt32, -1);
  scalars.add_scalar<uint64_t>("u64", GgufType::kUint64, 1);
  scalars.add_scalar<int64_t>("x", GgufType::kInt64, -1);
  scalars.add_scalar<double>("f64", GgufType::kFloat64, 0.5);
  scalars.add_scalar<uint8_t>("bool", GgufType::kBool, 1);
  folder.write("a-value-of-every-type", scalars.finish());
  GgufWriter nested;
  const std::string array("\x09\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\1\2", 26);
  nested.add_raw("x", 9, array);
  folder.write("nested-array", nested.finish());
  GgufWriter model = some_model();
  add_tokenizer(model);
  model.add_string("tokenizer.chat_template",
                   "{% for m in messages %}{{ m.role | upper }}: {{ m['content'] }}\n{% endfor %}"
                   "{% if add_generation_prompt %}ASSISTANT:{% endif %}");
  folder.write("llama", model.finish());
  GgufWriter words;
  add_tokenizer(words);
  folder.write("tokenizer", words.finish());
  GgufWriter chat;
  chat.add_string("tokenizer.chat_template",
                  "{%- set x = 1 + 2 -%}{# note #}{{ bos_token if x == 3 else eos_token }}"
                  "{% for m in messages %}{% if loop.first and m.role not in ['a', 'b'] %}"
                  "{{ m.content.strip() }}{% elif m.content is defined %}{{ loop.index0 }}"
                  "{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}");
  folder.write("chat-template", chat.finish());
  std::vector<float> values(64);
  std::iota(values.begin(), values.end(), 0.0f);
  GgufWriter tensors;
  tensors.add_f32("f32", {8, 2}, std::span(values).first(16));
  tensors.add_tensor({"f16", {4}, 1, std::string(8, '\x3c')});
  tensors.add_tensor({"q4_1", {32, 1, 1, 2}, 3, std::string(40, '\x31')});
  tensors.add_tensor({"q8_0", {32}, 8, std::string(34, '\x31')});
  folder.write("a-tensor-of-every-type", tensors.finish());
  GgufWriter aligned;
  aligned.alignment = 64;
  aligned.add_f32("a", {1}, std::span(values).first(1));
  const std::string good = aligned.finish();
  folder.write("aligned-to-64", good);
  folder.write("cut-short", good.substr(0, good.size() - 33));
  GgufWriter beyond;
  beyond.add_tensor({"a", {8}, 0, std::string(32, 'x'), 64});
  folder.write("tensor-beyond-the-file", beyond.finish());
  GgufWriter twice;
  twice.add_u32("x", 1);
  twice.add_u32("x", 2);
  folder.write("key-twice", twice.finish());
  GgufWriter deep;
  std::string levels;
  for (int i = 0; i < 6; ++i) levels += std::string("\x09\0\0\0\1\0\0\0\0\0\0\0", 12);
  deep.add_raw("x", 9, levels);
  folder.write("arrays-nested-too-deep", deep.finish());
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) {
  using namespace baton;
  if (argc != 2) {
    std::fputs("usage: fuzz_corpus FOLDER\n", stderr);
    return 2;
  }
  const std::string folder = argv[1];
  write_codec(Folder(folder + "/codec"));
  write_control(Folder(folder + "/control"));
  write_gguf(Folder(folder + "/gguf"));
}
