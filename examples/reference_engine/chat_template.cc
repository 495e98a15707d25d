#include "examples/reference_engine/chat_template.h"

#include "examples/reference_engine/jinja.h"

namespace baton::reference {

struct ChatTemplate::Program {
  std::vector<jinja::Node> nodes;
};

std::string_view ChatTemplate::chatml() {
  return "{% for message in messages %}"
         "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
         "{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
}

Result<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  BATON_ASSIGN_OR_RETURN(const auto pieces, jinja::cut(source));
  auto program = std::make_shared<Program>();
  BATON_ASSIGN_OR_RETURN(program->nodes, jinja::parse(pieces));
  ChatTemplate result;
  result.program_ = std::move(program);
  return result;
}

Result<std::vector<TextPiece>> ChatTemplate::render(std::span<const ChatMessage> messages,
                                                    const Variables& variables) const {
  using jinja::Text;
  const auto list = std::make_shared<jinja::List>();
  for (const ChatMessage& message : messages) {
    const auto entry = std::make_shared<jinja::Dict>();
    (*entry)["role"] = {Text(message.role, /*own=*/false)};
    (*entry)["content"] = {Text(message.content, /*own=*/false)};
    list->push_back({std::shared_ptr<const jinja::Dict>(entry)});
  }
  jinja::Dict globals;
  globals["messages"] = {std::shared_ptr<const jinja::List>(list)};
  globals["add_generation_prompt"] = {variables.add_generation_prompt};
  globals["bos_token"] = {Text(variables.bos_token, /*own=*/true)};
  globals["eos_token"] = {Text(variables.eos_token, /*own=*/true)};
  BATON_ASSIGN_OR_RETURN(const Text text, jinja::render(program_->nodes, globals));

  std::vector<TextPiece> pieces;
  size_t begin = 0;
  for (const Text::Run& run : text.runs()) {
    pieces.push_back({text.bytes().substr(begin, run.end - begin), run.own});
    begin = run.end;
  }
  return pieces;
}

}  // namespace baton::reference
