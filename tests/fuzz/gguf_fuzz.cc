#include "tests/fuzz/gguf_fuzz.h"

#include <algorithm>
#include <vector>

#include "examples/reference_engine/chat_template.h"
#include "examples/reference_engine/gguf.h"
#include "examples/reference_engine/model_config.h"
#include "examples/reference_engine/tokenizer.h"
#include "examples/reference_engine/weights.h"
#include "transfer/base/check.h"

namespace baton {
namespace {

using namespace reference;

template <typename T>
bool read(const Result<T>& result) {
  if (result.ok()) return true;
  BATON_CHECK(result.status().code() == Code::kInvalidArgument, result.status().to_string());
  return false;
}

void read_tensors(const GgufFile& file) {
  const auto* begin = file.bytes().data();
  std::vector<float> row;
  for (const GgufTensor& tensor : file.tensors()) {
    BATON_CHECK(tensor.data.data() >= begin &&
                    tensor.data.data() + tensor.data.size() <= begin + file.bytes().size(),
                "a tensor lies in its file");
    BATON_CHECK(file.find_tensor(tensor.name) == &tensor, "a tensor is found by its name");
    row.resize(tensor.row_elements());
    for (const uint64_t at : {uint64_t{0}, tensor.rows() - 1}) {
      tensor.dequantize_row(at, row.data());
    }
  }
}

void read_values(const GgufFile& file) {
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges", "llama.block_count",
                          "general.architecture", "tokenizer.ggml.token_type", "x"}) {
    read(file.get_unsigned(key));
    read(file.get_float(key));
    read(file.get_string(key));
    read(file.get_strings(key));
    read(file.get_integers(key));
  }
  read(LlamaConfig::from_gguf(file));
  read(LlamaWeights::from_gguf(file));
  if (const auto tokenizer = Tokenizer::from_gguf(file); read(tokenizer)) {
    read((*tokenizer)->encode("A text. Ein Text\xc3\xa4!", true));
  }
  const auto source = file.get_string("tokenizer.chat_template");
  if (!source.ok()) return;
  if (const auto parsed = ChatTemplate::parse(*source); read(parsed)) {
    read(parsed->render(std::vector<ChatMessage>{{"user", "hello"}, {"assistant", "hi"}},
                        {.bos_token = "<s>", .eos_token = "</s>"}));
  }
}

}  // namespace

bool fuzz_gguf(const uint8_t* data, size_t size) {
  const auto file = GgufFile::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf");
  if (!read(file)) return false;
  read_tensors(*file);
  read_values(*file);
  return true;
}

}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  baton::fuzz_gguf(data, size);
  return 0;
}
