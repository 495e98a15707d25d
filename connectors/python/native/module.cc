// baton._native: the session API for Python. Thin: no decision is made here.
//
// Tensors are addresses, strides and sizes; nothing of a tensor library is linked. The GIL is
// released where a call may wait or compute: making and closing a node, making a session (it hashes
// the prompt), waiting. All else is a mailbox's lock. (An object's constructor releases it by hand,
// around its own work only: what pybind11 does around a constructor needs it.)
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <nlohmann/json.hpp>

#include "connectors/python/native/sessions.h"
#include "kernels/isa.h"
#include "transfer/base/env.h"
#include "transfer/base/log.h"
#include "transfer/node_impl.h"
#include "transfer/ucx/ucx_endpoint.h"
#ifdef BATON_CUDA
#include "kernels/cuda.h"
#endif

namespace py = pybind11;

namespace baton::python {
namespace {

using Unlocked = py::call_guard<py::gil_scoped_release>;

Duration seconds(double value, const char* what) {
  if (!(value > 0 && value <= 86400))
    throw StatusError(
        Status(Code::kInvalidArgument, std::string(what) + " is " + std::to_string(value) +
                                           " s: expected more than 0, at most 86400"));
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

// Where the engine's blocks lie: layer_base[l] is the address of layer l's block 0.
KvMemory memory_of(const std::vector<uintptr_t>& layer_base, uint32_t blocks,
                   const KvLayout& layout) {
  KvMemory memory{.layout = layout, .layer_base = {}, .blocks = blocks, .cuda_device = {}};
  for (const uintptr_t base : layer_base)
    memory.layer_base.push_back(reinterpret_cast<std::byte*>(base));
  return memory;
}

py::dict dict_of(const HandoffReport& report) {
  py::dict out;
  out["end"] = report.end ? py::cast(std::string(protocol::end_name(*report.end))) : py::none();
  out["why"] = report.why.message();
  out["transport"] = report.transport;
  out["bytes"] = report.bytes;
  out["tokens"] = report.tokens;
  out["held_tokens"] = report.held_tokens;
  out["share_of_bound"] = report.share_of_bound ? py::cast(*report.share_of_bound) : py::none();
  out["seconds"] = to_seconds(report.total);
  return out;
}

const char* state_name(LoadState state) {
  switch (state) {
    case LoadState::kWaiting:
      return "waiting";
    case LoadState::kOffered:
      return "offered";
    case LoadState::kLoading:
      return "loading";
    case LoadState::kLoaded:
      return "loaded";
    case LoadState::kFailed:
      return "failed";
  }
  BATON_CHECK(false, "a load state that is not one");
}

// What this build and this machine have, for the doctor.
py::dict capabilities() {
  py::dict out;
  out["version"] = BATON_VERSION;
  out["isa"] = isa_name(best_isa());
  out["ucx"] = ucx::available();
#ifdef BATON_CUDA
  const Status cuda = cuda_usable();
  out["cuda"] = cuda.ok() ? std::string("usable") : cuda.message();
#else
  out["cuda"] = py::none();
#endif
  const Result<Token> token = env::token();
  out["token"] = token.ok() ? (token->present() ? "set" : "none") : token.status().message();
  return out;
}

void bind_layout(py::module_& module) {
  py::class_<KvLayout>(module, "KvLayout", "One layer's KV, in bytes: see kernels/kv_layout.h.")
      .def(py::init<>())
      .def_readwrite("block_tokens", &KvLayout::block_tokens)
      .def_readwrite("planes", &KvLayout::planes)
      .def_readwrite("heads", &KvLayout::heads)
      .def_readwrite("head_bytes", &KvLayout::head_bytes)
      .def_readwrite("block_stride", &KvLayout::block_stride)
      .def_readwrite("plane_stride", &KvLayout::plane_stride)
      .def_readwrite("head_stride", &KvLayout::head_stride)
      .def_readwrite("token_stride", &KvLayout::token_stride)
      .def_readwrite("opaque_block_bytes", &KvLayout::opaque_block_bytes)
      .def("validate", [](const KvLayout& layout) { throw_if_error(validate(layout)); })
      .def("segment_bytes", &segment_bytes, py::arg("tokens"));
  py::class_<Fingerprint>(module, "Fingerprint", "What must be equal: see transfer/chunk_key.h.")
      .def(py::init<>())
      .def_readwrite("model", &Fingerprint::model)
      .def_readwrite("dtype", &Fingerprint::dtype)
      .def_readwrite("layers", &Fingerprint::layers)
      .def_readwrite("planes", &Fingerprint::planes)
      .def_readwrite("kv_heads", &Fingerprint::kv_heads)
      .def_readwrite("head_dim", &Fingerprint::head_dim)
      .def_readwrite("rope", &Fingerprint::rope)
      .def_readwrite("opaque_layout", &Fingerprint::opaque_layout);
}

// A Duration member as seconds.
template <typename Get>
void bind_seconds(py::class_<NodeConfig>& config, const char* name, Get member) {
  config.def_property(
      name, [member](NodeConfig& c) { return to_seconds(member(c)); },
      [member, name](NodeConfig& c, double value) { member(c) = seconds(value, name); });
}

void bind_config(py::module_& module) {
  py::class_<NodeConfig> config(module, "NodeConfig", "A node's options: see transfer/node.h.");
  config.def(py::init<>())
      .def_property(
          "listen", [](const NodeConfig& c) { return c.listen.to_string(); },
          [](NodeConfig& c, const std::string& text) {
            c.listen = value_or_throw(HostPort::parse(text));
          })
      .def_property(
          "http", [](const NodeConfig& c) { return c.http ? c.http->to_string() : ""; },
          [](NodeConfig& c, const std::string& text) {
            c.http = value_or_throw(HostPort::parse(text));
          })
      .def_property(
          "channel", [](const NodeConfig& c) { return channel_choice_name(c.channel); },
          [](NodeConfig& c, const std::string& text) {
            c.channel = value_or_throw(parse_channel_choice(text));
          })
      .def_property(
          "transient", [](const NodeConfig& c) { return c.mode == SendMode::kTransient; },
          [](NodeConfig& c, bool transient) {
            c.mode = transient ? SendMode::kTransient : SendMode::kRetained;
          })
      .def_readwrite("fingerprint", &NodeConfig::fingerprint)
      .def_readwrite("chunk_tokens", &NodeConfig::chunk_tokens)
      .def_readwrite("retained_bytes", &NodeConfig::retained_bytes)
      .def_readwrite("store", &NodeConfig::store)
      .def_property(
          "store_node",
          [](const NodeConfig& c) { return c.tiers.store ? c.tiers.store->to_string() : ""; },
          [](NodeConfig& c, const std::string& text) {
            c.tiers.store = value_or_throw(HostPort::parse(text));
          })
      .def(
          "set_nvme",
          [](NodeConfig& c, const std::vector<std::string>& devices) {
            c.tiers.nvme.clear();
            for (const std::string& device : devices)
              c.tiers.nvme.push_back(value_or_throw(NvmeDevice::parse(device)));
          },
          py::arg("devices"))
      .def(
          "set_s3",
          [](NodeConfig& c, const std::string& url) {
            c.tiers.s3 = value_or_throw(s3::parse_s3_url(url));
          },
          py::arg("url"))
      .def_property(
          "peers",
          [](const NodeConfig& c) {
            std::vector<std::string> peers;
            for (const HostPort& peer : c.tiers.peers) peers.push_back(peer.to_string());
            return peers;
          },
          [](NodeConfig& c, const std::vector<std::string>& peers) {
            c.tiers.peers.clear();
            for (const std::string& peer : peers)
              c.tiers.peers.push_back(value_or_throw(HostPort::parse(peer)));
          })
      .def_property(
          "tier_policy",
          [](const NodeConfig& c) { return scheduler::eviction_name(c.tier_policy); },
          [](NodeConfig& c, const std::string& text) {
            c.tier_policy = value_or_throw(scheduler::parse_eviction(text));
          })
      .def_readwrite("tenant_bytes", &NodeConfig::tenant_bytes)
      .def_readwrite("transit_bytes", &NodeConfig::transit_bytes)
      .def_readwrite("huge_pages", &NodeConfig::huge_pages)
      .def_readwrite("retain_received", &NodeConfig::retain_received)
      .def_readwrite("window_bytes", &NodeConfig::window_bytes)
      .def_readwrite("max_handoffs", &NodeConfig::max_handoffs)
      .def_readwrite("insecure", &NodeConfig::insecure)
      .def_property(
          "advertise", [](const NodeConfig& c) { return c.control.advertise; },
          [](NodeConfig& c, std::string text) { c.control.advertise = std::move(text); })
      .def("set_tls",
           [](NodeConfig& c, std::string certificate, std::string key, std::string authority) {
             c.control.tls = {std::move(certificate), std::move(key), std::move(authority)};
           })
      .def("set_memory",
           [](NodeConfig& c, const std::vector<uintptr_t>& layer_base, uint32_t blocks,
              const KvLayout& layout) { c.kv = memory_of(layer_base, blocks, layout); });
  bind_seconds(config, "lease_s", [](NodeConfig& c) -> Duration& { return c.lease; });
  bind_seconds(config, "load_s", [](NodeConfig& c) -> Duration& { return c.tiers.load_deadline; });
  bind_seconds(config, "heartbeat_s",
               [](NodeConfig& c) -> Duration& { return c.control.heartbeat_interval; });
  bind_seconds(config, "first_contact_s",
               [](NodeConfig& c) -> Duration& { return c.receiver.first_contact_deadline; });
  bind_seconds(config, "accept_s",
               [](NodeConfig& c) -> Duration& { return c.receiver.accept_deadline; });
  bind_seconds(config, "record_s",
               [](NodeConfig& c) -> Duration& { return c.receiver.record_ttl; });
  config.def_property(
      "progress_s", [](const NodeConfig& c) { return to_seconds(c.receiver.progress_deadline); },
      [](NodeConfig& c, double value) {
        c.receiver.progress_deadline = c.sender.progress_deadline = seconds(value, "progress_s");
      });
}

std::shared_ptr<NodeHandle> make_node(NodeConfig config) {
  config.token = value_or_throw(env::token());
  // A peer with the same options refuses by itself before this is over.
  config.sender.accept_deadline =
      config.receiver.record_ttl + config.receiver.accept_deadline + std::chrono::seconds(1);
  // Whoever drops the last reference may hold the GIL; joining the node's thread needs none of it.
  const auto drop = [](NodeHandle* handle) {
    std::optional<py::gil_scoped_release> unlocked;
    if (PyGILState_Check() != 0) unlocked.emplace();
    delete handle;
  };
  py::gil_scoped_release unlocked;
  return {new NodeHandle(std::move(config)), drop};
}

void bind_node(py::module_& module) {
  py::class_<NodeHandle, std::shared_ptr<NodeHandle>>(
      module, "Node", "A node over memory that outlives it; BATON_TOKEN as for every program.")
      .def(py::init(&make_node), py::arg("config"))
      .def_property_readonly("address",
                             [](NodeHandle& h) { return h.node().address().to_string(); })
      .def_property_readonly("advertised", [](NodeHandle& h) { return h.node().advertised(); })
      .def_property_readonly("http_address",
                             [](NodeHandle& h) -> std::optional<std::string> {
                               const auto http = h.node().http_address();
                               if (!http) return std::nullopt;
                               return http->to_string();
                             })
      .def(
          "metrics", [](NodeHandle& h) { return h.node().metrics().text(); }, "Prometheus text.",
          Unlocked())
      .def(
          "debug",
          [](NodeHandle& h) {
            return value_or_throw(h.node().impl().debug_handoffs(std::chrono::seconds(5))).dump();
          },
          "JSON: live handoffs, peers, slots, the host tier.", Unlocked())
      .def(
          "drop_chunks",
          [](NodeHandle& h, double timeout_s) {
            return value_or_throw(h.node().drop_chunks(seconds(timeout_s, "timeout_s")));
          },
          py::arg("timeout_s"), "How many there were: see transfer/node.h.", Unlocked())
      .def(
          "take_notices", [](NodeHandle& h) { return h.notices()->take(); },
          "Tags of sessions that have changed or were released since the last call.")
      .def(
          "wait_notice",
          [](NodeHandle& h, double timeout_s) {
            return h.notices()->wait(seconds(timeout_s, "timeout_s"));
          },
          py::arg("timeout_s"), Unlocked())
      .def(
          "chunk_keys",
          [](NodeHandle& h, const std::vector<uint32_t>& tokens, const std::string& salt,
             const std::string& adapter) {
            const NodeConfig& config = h.node().config();
            std::vector<std::string> keys;
            for (const ChunkKey& key : key_chain(root_key(config.fingerprint, adapter, salt),
                                                 tokens, config.chunk_tokens))
              keys.push_back(key.to_hex());
            return keys;
          },
          py::arg("tokens"), py::arg("salt") = "", py::arg("adapter") = "", Unlocked())
      .def("close", &NodeHandle::close, Unlocked(),
           "Ends what is live and waits until nothing touches the blocks. Its sessions must be "
           "gone.")
      .def_property_readonly("closed", &NodeHandle::closed);
}

// Dropping a session aborts it, which only posts; dropping the last one of a closed connector drops
// its node.
void bind_sessions(py::module_& module) {
  const auto request = [](std::string handoff, uint32_t attempt, std::vector<std::string> peer,
                          double budget_s, std::vector<uint32_t> tokens, std::string salt,
                          std::string adapter, uint64_t tag) {
    return SessionRequest{std::move(handoff), attempt,         std::move(peer),    budget_s,
                          std::move(tokens),  std::move(salt), std::move(adapter), tag,
                          std::nullopt};
  };
  using Strings = std::vector<std::string>;
  using Blocks = std::vector<uint32_t>;
  py::class_<PyPrefillSession>(module, "PrefillSession", "See connectors/prefill_session.h.")
      .def(py::init([request](std::shared_ptr<NodeHandle> node, std::string handoff,
                              uint32_t attempt, Strings peer, double budget_s, Blocks tokens,
                              std::string salt, std::string adapter, uint64_t tag,
                              std::optional<double> lease_s) {
             py::gil_scoped_release unlocked;
             SessionRequest made =
                 request(std::move(handoff), attempt, std::move(peer), budget_s, std::move(tokens),
                         std::move(salt), std::move(adapter), tag);
             made.lease_s = lease_s;
             return std::make_unique<PyPrefillSession>(std::move(node), std::move(made));
           }),
           py::kw_only(), py::arg("node"), py::arg("handoff"), py::arg("attempt"), py::arg("peer"),
           py::arg("budget_s"), py::arg("tokens"), py::arg("salt"), py::arg("adapter"),
           py::arg("tag"), py::arg("lease_s") = py::none())
      .def(
          "begin",
          [](PyPrefillSession& s, const Blocks& blocks, uint32_t cached) {
            s.session().begin(blocks, cached);
          },
          py::arg("blocks"), py::arg("cached_tokens"))
      .def(
          "extend", [](PyPrefillSession& s, const Blocks& blocks) { s.session().extend(blocks); },
          py::arg("blocks"))
      .def(
          "layer_ready",
          [](PyPrefillSession& s, uint32_t layer, uint32_t tokens) {
            s.session().layer_ready(layer, tokens);
          },
          py::arg("layer"), py::arg("tokens"))
      .def("finish", [](PyPrefillSession& s) { s.session().finish(); })
      .def(
          "abort", [](PyPrefillSession& s, const std::string& why) { s.session().abort(why); },
          py::arg("why"))
      .def(
          "revoke", [](PyPrefillSession& s, const std::string& why) { s.session().revoke(why); },
          py::arg("why"))
      .def_property_readonly("released", [](PyPrefillSession& s) { return s.release().done(); })
      .def(
          "wait_released",
          [](PyPrefillSession& s, double timeout_s) {
            return s.release().wait(seconds(timeout_s, "timeout_s"));
          },
          py::arg("timeout_s"), Unlocked())
      .def("report", [](PyPrefillSession& s) { return dict_of(s.session().report()); });
  py::class_<PyDecodeSession>(module, "DecodeSession", "See connectors/decode_session.h.")
      .def(py::init([request](std::shared_ptr<NodeHandle> node, std::string handoff,
                              uint32_t attempt, const std::string& flow, Strings peer,
                              double budget_s, Blocks tokens, std::string salt, std::string adapter,
                              uint64_t tag) {
             py::gil_scoped_release unlocked;
             return std::make_unique<PyDecodeSession>(
                 std::move(node),
                 request(std::move(handoff), attempt, std::move(peer), budget_s, std::move(tokens),
                         std::move(salt), std::move(adapter), tag),
                 flow);
           }),
           py::kw_only(), py::arg("node"), py::arg("handoff"), py::arg("attempt"), py::arg("flow"),
           py::arg("peer"), py::arg("budget_s"), py::arg("tokens"), py::arg("salt"),
           py::arg("adapter"), py::arg("tag"))
      .def(
          "poll",
          [](PyDecodeSession& s) {
            const LoadProgress progress = s.session().poll();
            return py::make_tuple(state_name(progress.state), progress.tokens,
                                  progress.why.message());
          },
          "(state, tokens, why)")
      .def(
          "accept",
          [](PyDecodeSession& s, const Blocks& blocks, uint32_t held) {
            s.session().accept(blocks, held);
          },
          py::arg("blocks"), py::arg("held_tokens"))
      .def(
          "refuse", [](PyDecodeSession& s, const std::string& why) { s.session().refuse(why); },
          py::arg("why"))
      .def(
          "wait_layer",
          [](PyDecodeSession& s, uint32_t layer, double timeout_s) {
            throw_if_error(s.session().wait_layer(layer, seconds(timeout_s, "timeout_s")));
          },
          py::arg("layer"), py::arg("timeout_s"), Unlocked())
      .def("done", [](PyDecodeSession& s) { s.session().done(); })
      .def(
          "abort", [](PyDecodeSession& s, const std::string& why) { s.session().abort(why); },
          py::arg("why"))
      .def_property_readonly("released", [](PyDecodeSession& s) { return s.release().done(); })
      .def(
          "wait_released",
          [](PyDecodeSession& s, double timeout_s) {
            return s.release().wait(seconds(timeout_s, "timeout_s"));
          },
          py::arg("timeout_s"), Unlocked())
      .def("report", [](PyDecodeSession& s) { return dict_of(s.session().report()); });
}

void set_log_level(const std::string& level) {
  using log::Level;
  for (const auto& [name, value] : {std::pair{"debug", Level::kDebug},
                                    {"info", Level::kInfo},
                                    {"warn", Level::kWarn},
                                    {"error", Level::kError},
                                    {"critical", Level::kCritical}}) {
    if (level == name) return log::set_level(value);
  }
  throw StatusError(
      Status(Code::kInvalidArgument,
             "level is '" + level + "': expected one of debug, info, warn, error, critical"));
}

// baton.Error(message) with the attribute `code`, a code's name as logs write it.
void bind_error(py::module_& module) {
  static py::handle error;  // lives as long as the interpreter
  error = py::exception<StatusError>(module, "Error").release();
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const StatusError& status) {
      py::object raised = error(status.what());
      raised.attr("code") = status.code;
      PyErr_SetObject(error.ptr(), raised.ptr());
    }
  });
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  init_logging("baton");
  module.doc() = "Baton's nodes and sessions.";
  bind_error(module);
  bind_layout(module);
  bind_config(module);
  bind_node(module);
  bind_sessions(module);
  module.def("capabilities", &capabilities);
  module.def("set_log_level", &set_log_level, py::arg("level"),
             "Only lines of this level and above are written: debug, info, warn, error, critical.");
}

}  // namespace baton::python
