// Turns a chat into a prompt by the model's own template (a subset of Jinja).
//
// What it knows: {{ }}, {% for/endfor, if/elif/else/endif, set %}, {# #}, whitespace control;
// strings, integers, true, false, none, lists; + - == != < <= > >= and or not in, is [not]
// defined/none/string, x if c else y, indexing and attributes, loop.{first,last,index,index0,
// length}; filters and methods trim/strip, lower, upper, length; raise_exception(text).
// Anything else is an error at parse time that names the construct.
//
// Thread-safe after creation.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "examples/reference_engine/tokenizer.h"
#include "transfer/base/status.h"

namespace baton::reference {

struct ChatMessage {
  std::string role;
  std::string content;
};

class ChatTemplate {
 public:
  // kInvalidArgument: unsupported or malformed, with the line.
  static Result<ChatTemplate> parse(std::string_view source);
  // <|im_start|>role\ncontent<|im_end|>\n…, for models without a template of their own.
  static std::string_view chatml();

  struct Variables {
    bool add_generation_prompt = true;
    std::string bos_token;
    std::string eos_token;
  };
  // The prompt in pieces: special tokens are allowed in what the template wrote, and not in what
  // the messages brought. kInvalidArgument: raise_exception, or an operation that does not fit its
  // operands.
  Result<std::vector<TextPiece>> render(std::span<const ChatMessage> messages,
                                        const Variables& variables) const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace baton::reference
