// Everything that a model file brings: weights, tokenizer, chat template, identity.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "examples/reference_engine/chat_template.h"
#include "examples/reference_engine/llama.h"
#include "examples/reference_engine/tokenizer.h"
#include "transfer/base/status.h"

namespace baton::reference {

struct Model {
  std::string name;      // the file's name without folder and ".gguf", or "random"
  std::string revision;  // SHA-256 of the file, or the random model's full description
  std::unique_ptr<Llama> llama;
  std::unique_ptr<Tokenizer> tokenizer;
  ChatTemplate chat_template;
};

// `source`: "FILE.gguf" or "random:…". Errors name the file or key, and the expectation.
Result<Model> load_model(std::string_view source, uint32_t threads);

}  // namespace baton::reference
