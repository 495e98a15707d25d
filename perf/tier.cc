// How fast does a tier give back what it keeps, and how fast does it know what it has?
#include "perf/tier.h"

#include <filesystem>

namespace baton::bench {

Question add_tier(const Command& app) {
  struct Asked {
    std::string tier;
    TierOptions options;
  };
  auto asked = std::make_shared<Asked>();
  TierOptions& options = asked->options;
  Command command =
      app.add_command("tier", "how fast does a tier give back what it keeps, and find it");
  options.folder = std::filesystem::temp_directory_path();
  command.add_option("--tier", asked->tier, "host, nvme or s3")
      .required()
      .one_of({"host", "nvme", "s3"});
  command.add_option("--bytes", options.bytes, "of KV that are loaded, all layers (256MiB)");
  command.add_option("--block-bytes", options.block_bytes,
                     "of one layer of one KV block; a list (64KiB)");
  command.add_option("--segment-bytes", options.segment_bytes, "of one layer of a chunk (1MiB)");
  command.add_option("--layers", options.layers, "of the model (32)").range(1u, 1024u);
  command
      .add_option(
          "--chunks", options.chunks,
          "host: that the tier holds in the look-up (1000000); nvme: in a sample (32); s3: (8)")
      .range(1u, 1u << 24);
  command.add_option("--tokens", options.tokens, "of the prompt that is looked up (131072)")
      .range(1u, 1u << 24);
  command.add_option("--chunk-tokens", options.chunk_tokens, "of a chunk of it (256)")
      .range(1u, 1u << 20);
  command
      .add_option("--folder", options.folder,
                  "nvme: on the disk to be measured; s3: of a service of its own")
      .shows_default();
  command.add_option("--io-bytes", options.io_bytes,
                     "nvme: smaller layers are read together up to this (1MiB)");
  command.add_option("--depth", options.depth, "nvme: reads or writes at a time (32)")
      .range(1u, 4096u);
  command.add_option("--url", options.url,
                     "s3: s3://bucket[/prefix]?endpoint=… (a Ceph gateway of its own is started)");
  command.add_option("--connections", options.connections, "s3: a list (4,16)");
  return {command, [asked](Run& run) -> Status {
            if (asked->tier == "nvme") return measure_nvme(run, asked->options);
            if (asked->tier == "s3") return measure_s3(run, asked->options);
            BATON_RETURN_IF_ERROR(measure_host_hit(run, asked->options));
            return measure_host_lookup(run, asked->options);
          }};
}

}  // namespace baton::bench
