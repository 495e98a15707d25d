#include "transfer/tiers/s3/reading.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstring>

#include "transfer/base/log.h"
#include "transfer/base/text.h"

namespace baton::s3 {

// A range of the object and what has come of it.
struct Reading::Part final : RequestBody {
  Part(Reading& owner, uint64_t first, uint64_t until, TurnKind its_turn)
      : reading(owner), turn(its_turn), position(first), end(until) {}

  std::optional<ByteRange> wanted() override { return ByteRange{position, end - position}; }

  bool received(uint64_t offset, std::span<const std::byte> bytes) override {
    // Of a second try that began before the first had come so far: what is there stays as it is.
    if (offset > position) return false;
    const uint64_t again = position - offset;
    if (again >= bytes.size()) return true;
    bytes = bytes.subspan(again);
    if (bytes.size() > end - position) return false;
    while (!bytes.empty()) bytes = bytes.subspan(take(bytes));
    return true;
  }

  size_t take(std::span<const std::byte> bytes) {
    if (position < kHeaderBytes) {
      const size_t size = std::min<size_t>(bytes.size(), kHeaderBytes - position);
      std::memcpy(reading.header_->data() + position, bytes.data(), size);
      position += size;
      if (position == kHeaderBytes) {
        reading.header_landed_ = true;
        reading.something_landed();
      }
      return size;
    }
    const uint64_t layer_bytes = reading.request_.segment_bytes;
    const uint64_t at = position - kHeaderBytes;  // in the slot
    const auto layer = static_cast<uint32_t>(at / layer_bytes);
    const size_t size = std::min<uint64_t>(bytes.size(), layer_bytes - at % layer_bytes);
    if (at % layer_bytes == 0)
      pass.emplace(seed_of(reading.request_.id, layer, layer_bytes), layer_bytes);
    std::byte* const place = reading.request_.into.bytes().data() + at;
    std::memcpy(place, bytes.data(), size);
    pass->add(place, size);
    position += size;
    if ((position - kHeaderBytes) % layer_bytes == 0) {
      reading.layers_[layer].landed = pass->finish();
      reading.something_landed();
    }
    return size;
  }

  Reading& reading;
  const TurnKind turn;
  uint64_t position;  // of the object: the next byte that is missing
  const uint64_t end;
  std::optional<ChecksumPass> pass;  // of the layer that position is in
  std::unique_ptr<Request> request;
};

Reading::Reading(Service& service, Owner& owner, TierReadRequest request, Status refused,
                 Tier::OnLayer on_layer, Tier::OnRead on_read)
    : service_(service),
      owner_(&owner),
      request_(std::move(request)),
      on_layer_(std::move(on_layer)),
      on_read_(std::move(on_read)),
      left_(request_.layers) {
  if (!refused.ok()) {
    boost::asio::post(service_.io, alive_.guard([this, refused] { finish(refused); }));
    return;
  }
  layers_.resize(request_.layers);
  writer_ = request_.into.pool()->add_writer(request_.into);
  begin();
}

Reading::~Reading() {
  if (owner_ == nullptr) return;
  let_go();
  owner_->on_end(*this, Status(Code::kCancelled, "the reader let go"));
}

void Reading::abandon() {
  owner_ = nullptr;
  on_layer_ = nullptr;
  on_read_ = nullptr;
  let_go();
}

void Reading::begin() {
  header_ = std::make_unique<Header>();
  header_landed_ = false;
  ask(0, kHeaderBytes + request_.segment_bytes, TurnKind::kFirstLayer);
}

void Reading::ask(uint64_t first, uint64_t end, TurnKind turn) {
  parts_.push_back(std::make_unique<Part>(*this, first, end, turn));
  begin(*parts_.back());
}

void Reading::begin(Part& part) {
  const std::string name = object_name(service_.config.prefix, request_.origin, request_.id);
  part.request = std::make_unique<Request>(
      service_,
      RequestSpec{.method = HttpMethod::kGet,
                  .url = service_.urls.object(name),
                  .turn = part.turn,
                  .deadline = request_.deadline},
      part, [this, &part](Result<S3Answer> answer) { on_part(part, std::move(answer)); });
}

void Reading::ask_for_the_rest() {
  asked_for_the_rest_ = true;
  const uint64_t layer_bytes = request_.segment_bytes;
  const auto most =
      static_cast<uint32_t>(std::max<uint64_t>(1, service_.config.range_bytes / layer_bytes));
  for (uint32_t layer = 1; layer < request_.layers;
       layer += std::min(most, request_.layers - layer)) {
    const uint32_t end = layer + std::min(most, request_.layers - layer);
    ask(layer_offset(layer, layer_bytes), layer_offset(end, layer_bytes), TurnKind::kLayers);
  }
}

// Inside libcurl: what follows from it waits until that has returned.
void Reading::something_landed() {
  if (std::exchange(stepping_, true)) return;
  boost::asio::post(service_.io, alive_.guard([this] { step(); }));
}

void Reading::step() {
  stepping_ = false;
  const auto watch = alive_.watch();
  if (!chunk_) {
    if (!header_landed_) return;
    open_header();
    if (watch.expired() || !chunk_) return;
  }
  for (uint32_t layer = 0; layer < request_.layers; ++layer) {
    if (!layers_[layer].landed || layers_[layer].told) continue;
    if (*layers_[layer].landed != chunk_->checksums[layer]) {
      doubt(layer);
    } else if (!tell(layer)) {
      return;
    }
    if (watch.expired()) return;
  }
  if (left_ == 0) finish(std::move(*chunk_));
}

void Reading::open_header() {
  auto opened = decode_header(*header_);
  if (!opened.ok()) {
    opened.status().code() == Code::kRefused ? finish(opened.status())
                                             : doubt_object(opened.status().message());
    return;
  }
  Chunk& chunk = *opened;
  if (chunk.id != request_.id || chunk.origin != request_.origin) {
    service_.metrics.checksum_failures.Increment();
    return finish(Status(Code::kChecksum, "s3: the object of chunk " + request_.id.key.to_hex() +
                                              " says that it is chunk " + chunk.id.key.to_hex() +
                                              " of KV group " + number(chunk.id.kv_group) +
                                              ", head group " + number(chunk.id.head_group) +
                                              ", or of another model or tenant"));
  }
  if (chunk.checksums.size() != request_.layers)
    return finish(Status(Code::kRefused, differs("the number of layers", request_.layers,
                                                 chunk.checksums.size(), "in the object")));
  if (chunk.segment_bytes != request_.segment_bytes)
    return finish(Status(Code::kRefused, differs("a layer's length", request_.segment_bytes,
                                                 chunk.segment_bytes, "in the object")));
  chunk_ = std::move(chunk);
  chunk_->slot = request_.into;
  header_.reset();
}

// False: nothing of this may be touched any more.
bool Reading::tell(uint32_t layer) {
  layers_[layer].told = true;
  --left_;
  service_.metrics.read_bytes.Increment(static_cast<double>(request_.segment_bytes));
  if (layer == 0 && !asked_for_the_rest_) ask_for_the_rest();
  if (!on_layer_) return true;
  const auto watch = alive_.watch();
  on_layer_(*chunk_, layer);
  return !watch.expired();
}

void Reading::doubt(uint32_t layer) {
  service_.metrics.checksum_failures.Increment();
  const std::string what = "layer " + number(layer) + " of chunk " + request_.id.key.to_hex();
  if (std::exchange(layers_[layer].doubted, true))
    return finish(Status(Code::kChecksum, "s3: " + what + " does not verify, read twice"));
  log::warn("s3: a layer does not verify and is read again chunk={} layer={}",
            request_.id.key.to_hex(), layer);
  layers_[layer].landed.reset();
  const uint64_t first = layer_offset(layer, request_.segment_bytes);
  ask(first, first + request_.segment_bytes, TurnKind::kFirstLayer);
}

// Nothing of it has been told: all of it is read again, once.
void Reading::doubt_object(const std::string& why) {
  service_.metrics.checksum_failures.Increment();
  if (std::exchange(object_doubted_, true)) {
    return finish(Status(Code::kChecksum,
                         "s3: chunk " + request_.id.key.to_hex() + ": " + why + ", read twice"));
  }
  log::warn("s3: an object does not verify and is read again chunk={} error=\"{}\"",
            request_.id.key.to_hex(), why);
  parts_.clear();
  for (Layer& layer : layers_) layer.landed.reset();
  begin();
}

// The object ends before this part of it does.
void Reading::cut_short(Part& part) {
  constexpr const char* kWhy = "the object is too short";
  if (!chunk_) return doubt_object(kWhy);
  service_.metrics.checksum_failures.Increment();
  if (std::exchange(object_doubted_, true)) {
    return finish(Status(Code::kChecksum,
                         "s3: chunk " + request_.id.key.to_hex() + ": " + kWhy + ", read twice"));
  }
  begin(part);
}

void Reading::on_part(Part& part, Result<S3Answer> answer) {
  if (!answer.ok()) return finish(answer.status());
  const std::string chunk = "s3: chunk " + request_.id.key.to_hex();
  if (answer->status == 404 && answer->code != "NoSuchBucket")
    return finish(Status(Code::kNotFound, chunk + " is not there"));
  if (!answer->ok() && answer->status != 416)
    return finish(Status(Code::kRefused, chunk + ": " + to_text(*answer)));
  const bool is_short = part.position < part.end;
  const bool doubted = object_doubted_;
  const auto watch = alive_.watch();
  step();  // what has landed says more than a length
  if (watch.expired() || object_doubted_ != doubted) return;
  if (is_short) cut_short(part);
}

void Reading::finish(Result<Chunk> result) {
  let_go();
  if (Owner* const owner = std::exchange(owner_, nullptr)) owner->on_end(*this, result.status());
  // This may be gone in the callback, the function with it.
  if (const Tier::OnRead on_read = std::exchange(on_read_, nullptr)) on_read(std::move(result));
}

// The requests first: without them nothing writes.
void Reading::let_go() {
  alive_.cut();
  parts_.clear();
  writer_.reset();
  request_.into.reset();
}

}  // namespace baton::s3
