#include "examples/reference_engine/model.h"

#include <openssl/sha.h>

#include <algorithm>

#include "examples/reference_engine/gguf.h"
#include "transfer/base/ids.h"

namespace baton::reference {
namespace {

std::string file_name(std::string_view path) {
  path.remove_prefix(path.rfind('/') + 1);  // none: npos + 1 is 0
  if (path.ends_with(".gguf")) path.remove_suffix(5);
  return std::string(path);
}

Result<Model> load_gguf(const std::string& path, uint32_t threads) {
  BATON_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
  Model model;
  model.name = file_name(path);
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(file.bytes().data()), file.bytes().size(), digest);
  model.revision = to_hex(digest, sizeof digest);
  BATON_ASSIGN_OR_RETURN(model.tokenizer, Tokenizer::from_gguf(file));
  constexpr const char* kTemplate = "tokenizer.chat_template";
  std::string_view source = ChatTemplate::chatml();
  if (file.find(kTemplate) != nullptr) {
    BATON_ASSIGN_OR_RETURN(source, file.get_string(kTemplate));
  }
  auto chat_template = ChatTemplate::parse(source);
  if (!chat_template.ok()) return file.error(chat_template.status().message());
  model.chat_template = std::move(chat_template).value();
  BATON_ASSIGN_OR_RETURN(model.llama, Llama::create(file, threads));
  if (model.tokenizer->vocab_size() != model.llama->config().vocab) {
    return file.error("metadata \"tokenizer.ggml.tokens\": expected " +
                      std::to_string(model.llama->config().vocab) +
                      " tokens, as many as the embedding has, found " +
                      std::to_string(model.tokenizer->vocab_size()));
  }
  return model;
}

}  // namespace

Result<Model> load_model(std::string_view text, uint32_t threads) {
  BATON_ASSIGN_OR_RETURN(const ModelSource source, ModelSource::parse(text));
  if (!source.path.empty()) return load_gguf(source.path, threads);
  Model model;
  model.name = "random";
  model.revision = "random:" + source.random.to_string();
  BATON_ASSIGN_OR_RETURN(model.llama, Llama::create(source, threads));
  model.tokenizer = Tokenizer::bytes(source.random.config.vocab);
  BATON_ASSIGN_OR_RETURN(model.chat_template, ChatTemplate::parse(ChatTemplate::chatml()));
  return model;
}

}  // namespace baton::reference
