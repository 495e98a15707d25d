#include "examples/reference_engine/openai_response.h"

#include <nlohmann/json.hpp>

namespace baton::reference {
namespace {

using nlohmann::json;

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json frame(const AnswerStyle& style, const char* object) {
  return {{"id", style.id}, {"object", object}, {"created", style.created}, {"model", style.model}};
}

json usage(const GenerationEnd& end) {
  return {{"prompt_tokens", end.prompt_tokens},
          {"completion_tokens", end.completion_tokens},
          {"total_tokens", end.prompt_tokens + end.completion_tokens}};
}

const char* finish_reason(const GenerationEnd& end) {
  return end.finish == Finish::kStop ? "stop" : "length";
}

// What a decoder needs to fetch this prompt's KV from here.
json fetch_offer(const AnswerStyle& style) {
  json baton = {{"handoff", style.transfer->handoff.id.to_string()},
                {"attempt", style.transfer->handoff.attempt},
                {"role", "decode"},
                {"flow", "fetch"},
                {"peer", json::array({style.own_node})}};
  if (!style.transfer->salt.empty()) baton["salt"] = style.transfer->salt;
  return baton;
}

json transfer_params(const AnswerStyle& style, const GenerationEnd& end) {
  if (style.transfer && style.transfer->role == TransferRole::kPrefill &&
      style.transfer->peer.empty())
    return {{"baton", fetch_offer(style)}};
  json baton = {{"prompt_tokens_computed", end.prompt_tokens_computed}};
  if (style.transfer) {
    baton["handoff"] = style.transfer->handoff.id.to_string();
    baton["attempt"] = style.transfer->handoff.attempt;
  }
  if (end.handoff) {
    const HandoffReport& report = *end.handoff;
    baton["bytes"] = report.bytes;
    baton["transport"] = report.transport.empty() ? json() : json(report.transport);
    baton["share_of_bound"] = report.share_of_bound ? json(*report.share_of_bound) : json();
    baton["end"] = report.end ? json(protocol::end_name(*report.end)) : json();
    if (!report.why.ok()) baton["why"] = report.why.message();
  }
  return {{"baton", std::move(baton)}};
}

json stream_piece(const AnswerStyle& style, std::string_view text, bool first) {
  json piece = frame(style, style.chat ? "chat.completion.chunk" : "text_completion");
  json choice = {{"index", 0}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  if (style.chat) {
    choice["delta"] = json::object();
    if (first) choice["delta"]["role"] = "assistant";
    if (first || !text.empty()) choice["delta"]["content"] = text;
  } else {
    choice["text"] = text;
  }
  piece["choices"] = json::array({std::move(choice)});
  return piece;
}

}  // namespace

std::string whole_answer(const AnswerStyle& style, std::string_view text,
                         std::span<const uint32_t> tokens, const GenerationEnd& end) {
  json answer = frame(style, style.chat ? "chat.completion" : "text_completion");
  json choice = {{"index", 0}, {"logprobs", nullptr}, {"finish_reason", finish_reason(end)}};
  if (style.chat)
    choice["message"] = {{"role", "assistant"}, {"content", text}};
  else
    choice["text"] = text;
  if (style.return_token_ids) choice["token_ids"] = tokens;
  answer["choices"] = json::array({std::move(choice)});
  answer["usage"] = usage(end);
  answer["kv_transfer_params"] = transfer_params(style, end);
  return dump(answer);
}

std::string text_piece(const AnswerStyle& style, std::string_view text,
                       std::span<const uint32_t> tokens, bool first) {
  json piece = stream_piece(style, text, first);
  if (style.return_token_ids) piece["choices"][0]["token_ids"] = tokens;
  return dump(piece);
}

std::string last_piece(const AnswerStyle& style, std::string_view text, const GenerationEnd& end,
                       bool first) {
  json piece = stream_piece(style, text, first);
  piece["choices"][0]["finish_reason"] = finish_reason(end);
  piece["kv_transfer_params"] = transfer_params(style, end);
  return dump(piece);
}

std::string usage_piece(const AnswerStyle& style, const GenerationEnd& end) {
  json piece = frame(style, style.chat ? "chat.completion.chunk" : "text_completion");
  piece["choices"] = json::array();
  piece["usage"] = usage(end);
  return dump(piece);
}

std::string sse_event(std::string_view json) { return "data: " + std::string(json) + "\n\n"; }

std::string model_list(std::string_view name, int64_t created) {
  return dump(
      {{"object", "list"},
       {"data",
        json::array(
            {{{"id", name}, {"object", "model"}, {"created", created}, {"owned_by", "baton"}}})}});
}

}  // namespace baton::reference
