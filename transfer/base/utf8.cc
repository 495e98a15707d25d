#include "transfer/base/utf8.h"

#include <cstdint>

namespace baton {

Utf8Step next_utf8(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return {Utf8Step::kCharacter, 1};
  if (lead < 0xc2 || lead > 0xf4) return {Utf8Step::kInvalid, 1};
  const size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // The second byte's range depends on the first; later ones are 80…BF.
  uint8_t low = 0x80, high = 0xbf;
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  for (size_t i = 1; i < size; ++i, low = 0x80, high = 0xbf) {
    if (i == text.size()) return {Utf8Step::kIncomplete, i};
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte < low || byte > high) return {Utf8Step::kInvalid, i};
  }
  return {Utf8Step::kCharacter, size};
}

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (static_cast<uint8_t>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const Utf8Step step = next_utf8(text.substr(at));
    if (step.kind != Utf8Step::kCharacter) return at;
    at += step.length;
  }
  return std::nullopt;
}

std::string_view cut_utf8(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  const auto continues = [&](size_t at) { return (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80; };
  size_t begin = bytes;  // of the character at the bound: three bytes earlier at most
  while (begin > 0 && bytes - begin < 3 && continues(begin)) --begin;
  return text.substr(0, continues(begin) ? bytes : begin);
}

void drain_utf8(std::string& pending, std::string& out, bool flush) {
  constexpr std::string_view kReplacement = "\xef\xbf\xbd";
  std::string_view rest = pending;
  while (!rest.empty()) {
    const Utf8Step step = next_utf8(rest);
    if (step.kind == Utf8Step::kIncomplete && !flush) break;
    out += step.kind == Utf8Step::kCharacter ? rest.substr(0, step.length) : kReplacement;
    rest.remove_prefix(step.length);
  }
  pending.erase(0, pending.size() - rest.size());
}

}  // namespace baton
