#include "transfer/tiers/s3/credentials.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

namespace baton::s3 {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

Status missing(const std::string& what) { return Status(Code::kInvalidArgument, "s3: " + what); }

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// What goes into headers must not end one and begin another.
Status check_characters(const Credentials& credentials, const std::string& from) {
  for (const std::string* value :
       {&credentials.access_key_id, &credentials.secret_access_key, &credentials.session_token}) {
    if (!std::all_of(value->begin(), value->end(), [](char c) { return c > ' ' && c < 0x7f; })) {
      return missing("the credentials of " + from +
                     " have a character that is no visible ASCII character");
    }
  }
  return ok_status();
}

Result<std::string> read_file(const std::string& path, const std::string& profile) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return missing("no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and " +
                   path + ", where profile '" + profile + "' is looked for, cannot be read");
  }
  std::string text(kMaxFileBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes)
    return missing(path + " has more than " + std::to_string(kMaxFileBytes) + " bytes");
  return text;
}

}  // namespace

Result<Credentials> parse_credentials(std::string_view text, const std::string& profile,
                                      const std::string& path) {
  bool found = false, inside = false;
  std::map<std::string, std::string, std::less<>> values;
  while (!text.empty()) {
    const std::string_view raw = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), raw.size() + 1));
    const std::string_view line = trimmed(raw);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    if (line.front() == '[') {
      inside = line.back() == ']' && trimmed(line.substr(1, line.size() - 2)) == profile;
      found |= inside;
      continue;
    }
    const size_t equals = line.find('=');
    // An indented line belongs to a nested setting of Amazon's tools.
    if (!inside || equals == line.npos || raw.front() == ' ' || raw.front() == '\t') continue;
    values[std::string(trimmed(line.substr(0, equals)))] = trimmed(line.substr(equals + 1));
  }
  const std::string where = "profile '" + profile + "' of " + path;
  if (!found) return missing("there is no " + where);
  for (const char* name : {"aws_access_key_id", "aws_secret_access_key"}) {
    if (values[name].empty()) return missing(where + " has no " + name);
  }
  Credentials credentials{.access_key_id = values["aws_access_key_id"],
                          .secret_access_key = values["aws_secret_access_key"],
                          .session_token = values["aws_session_token"]};
  BATON_RETURN_IF_ERROR(check_characters(credentials, where));
  return credentials;
}

Result<Credentials> load_credentials(const std::string& profile, const env::Aws& environment) {
  const bool id = !environment.access_key_id.empty();
  const bool secret = !environment.secret_access_key.empty();
  if (profile.empty() && id != secret) {
    return missing(id ? "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not: expected both"
                      : "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not: expected both");
  }
  if (profile.empty() && id) {
    Credentials credentials{.access_key_id = environment.access_key_id,
                            .secret_access_key = environment.secret_access_key,
                            .session_token = environment.session_token};
    BATON_RETURN_IF_ERROR(check_characters(credentials, "the environment"));
    return credentials;
  }
  const std::string name = !profile.empty()               ? profile
                           : !environment.profile.empty() ? environment.profile
                                                          : "default";
  const std::string path = !environment.credentials_file.empty()
                               ? environment.credentials_file
                               : environment.home + "/.aws/credentials";
  BATON_ASSIGN_OR_RETURN(const std::string text, read_file(path, name));
  return parse_credentials(text, name, path);
}

}  // namespace baton::s3
