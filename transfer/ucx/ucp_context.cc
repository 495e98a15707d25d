#include "transfer/ucx/ucp_context.h"

#include <ucs/config/global_opts.h>
#include <ucs/debug/debug.h>
#include <ucs/debug/log_def.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <mutex>
#include <sstream>

#include "transfer/base/log.h"

namespace baton::ucx {
namespace {

// UCX writes to stdout by default, where programs of ours write results.
ucs_log_func_rc_t log_to_ours(const char*, unsigned, const char*, ucs_log_level_t level,
                              const ucs_log_component_config_t*, const char* format, va_list args) {
  std::array<char, 512> text{};
  std::vsnprintf(text.data(), text.size(), format, args);
  const auto ours = level <= UCS_LOG_LEVEL_ERROR  ? log::Level::kError
                    : level == UCS_LOG_LEVEL_WARN ? log::Level::kWarn
                                                  : log::Level::kDebug;
  log::log(ours, "ucx says text=\"{}\"", text.data());
  return UCS_LOG_FUNC_RC_STOP;
}

void prepare_process() {
  static std::once_flag once;
  std::call_once(once, [] {
    ucs_log_push_handler(log_to_ours);
    // A crash is the program's to report, and its sanitizer's.
    if (ucs_global_opts.handle_errors != 0) {
      for (unsigned i = 0; i < ucs_global_opts.error_signals.count; ++i)
        ucs_debug_disable_signal(ucs_global_opts.error_signals.signals[i]);
    }
  });
}

using Setting = std::pair<const char*, std::string>;

std::vector<Setting> settings(const UcxConfig& config) {
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  // 1.13 finds a transport's options only without the transport's name before them, and warns of
  // others; no other transport has options of these names.
  const bool bare = major == 1 && minor <= 13;
  std::vector<Setting> out = {{"TLS", config.transports},
                              // By default messages go in pieces of 8 KiB.
                              {bare ? "TX_SEG_SIZE" : "TCP_TX_SEG_SIZE", "64K"},
                              {bare ? "RX_SEG_SIZE" : "TCP_RX_SEG_SIZE", "128K"}};
  if (!config.devices.empty()) out.emplace_back("NET_DEVICES", config.devices);
  return out;
}

Result<ucp_context_h> init(const UcxConfig& config) {
  ucp_config_t* read = nullptr;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &read); status != UCS_OK)
    return ucx_error("ucp_config_read", status);
  const std::unique_ptr<ucp_config_t, void (*)(ucp_config_t*)> ucx(read, ucp_config_release);
  for (const auto& [name, value] : settings(config)) {
    if (const ucs_status_t status = ucp_config_modify(ucx.get(), name, value.c_str());
        status != UCS_OK)
      return ucx_error(std::string("ucx setting ") + name + "=" + value, status);
  }
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.name = "baton";
  ucp_context_h context = nullptr;
  if (const ucs_status_t status = ucp_init(&params, ucx.get(), &context); status != UCS_OK) {
    const std::string devices = config.devices.empty() ? "all" : config.devices;
    return Status(Code::kUnavailable,
                  "channel ucx: UCX " + std::string(ucp_get_version_string()) +
                      " has nothing to use with transports " + config.transports + " on devices " +
                      devices + ": " + ucs_status_string(status),
                  status);
  }
  return context;
}

}  // namespace

Status ucx_error(const std::string& what, ucs_status_t status) {
  return Status(Code::kInternal, "ucx channel: " + what + ": " + ucs_status_string(status), status);
}

std::string printed(const std::function<void(FILE*)>& print) {
  char* text = nullptr;
  size_t size = 0;
  FILE* stream = ::open_memstream(&text, &size);
  if (stream == nullptr) return {};
  print(stream);
  std::fclose(stream);
  std::string out(text, size);
  std::free(text);
  return out;
}

bool is_rdma(const std::string& transport) {
  constexpr std::array kPrefixes = {"rc_", "dc_", "ud_", "gga_", "srd", "ugni"};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](const char* prefix) { return transport.starts_with(prefix); });
}

UcpContext::UcpContext(ucp_context_h context) : context_(context) {
  // "#      resource 0  :  md 0  dev 0  flags -- tcp/lo"
  std::istringstream text(printed([&](FILE* to) { ucp_context_print_info(context, to); }));
  for (std::string line; std::getline(text, line);) {
    if (line.find(" resource ") == std::string::npos) continue;
    const size_t word = line.find_last_of(' ', line.find_last_not_of(' '));
    const size_t slash = line.find('/', word);
    if (word == std::string::npos || slash == std::string::npos) continue;
    std::string name = line.substr(word + 1, slash - word - 1);
    if (std::find(transports_.begin(), transports_.end(), name) == transports_.end())
      transports_.push_back(std::move(name));
  }
}

Result<std::shared_ptr<UcpContext>> UcpContext::create(const UcxConfig& config) {
  prepare_process();
  BATON_ASSIGN_OR_RETURN(ucp_context_h handle, init(config));
  std::shared_ptr<UcpContext> context(new UcpContext(handle));
  std::string names, set;
  for (const std::string& name : context->transports()) names += (names.empty() ? "" : ",") + name;
  for (const auto& [name, value] : settings(config)) set += " " + std::string(name) + "=" + value;
  log::info("ucx up version={} transports={} settings=\"{}\"", ucp_get_version_string(), names,
            set.substr(1));
  return context;
}

}  // namespace baton::ucx
