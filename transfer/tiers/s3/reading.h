// One chunk on its way from its object into a slot.
//
// The first request brings the header and layer 0. Once these have verified the other layers are
// asked for in ranges of a few, in their order, over as many connections as there are: before that
// they would only share layer 0's bandwidth, and bring what is of no use without it. libcurl's
// bytes go straight to their place in the slot, and the checksum is taken over them there while
// they are in the cache.
//
// What does not verify is read once more, since it may have been spoilt on its way. What does not
// verify twice, or says that it is another chunk, is told to be bad.
//
// The slot has a writer until no request that could write into it is left.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/checksum_pass.h"
#include "transfer/tiers/s3/lifeline.h"
#include "transfer/tiers/s3/object_format.h"
#include "transfer/tiers/s3/request.h"
#include "transfer/tiers/tier.h"

namespace baton::s3 {

class Reading final : public Tier::Read {
 public:
  // Of whoever keeps count. Called before on_read's callback.
  class Owner {
   public:
    virtual ~Owner() = default;
    // It has ended, or was cancelled (kCancelled): the slot has no writer of it any more.
    // kNotFound: the object is not there; kChecksum: it is bad and should go.
    virtual void on_end(Reading& reading, const Status& how) = 0;
  };

  // `refused`: it ends with that and asks for nothing. The owner must live until on_end.
  Reading(Service& service, Owner& owner, TierReadRequest request, Status refused,
          Tier::OnLayer on_layer, Tier::OnRead on_read);
  ~Reading() override;  // cancels

  const TierReadRequest& request() const { return request_; }
  // Ends with this now.
  void give_up(Status why) { finish(std::move(why)); }
  // Whoever owns the service goes: nothing is called any more.
  void abandon();

 private:
  struct Part;
  struct Layer {
    std::optional<Checksum> landed;  // all of its bytes lie in the slot, and have this checksum
    bool told = false;
    bool doubted = false;  // has not verified once
  };

  void begin();
  void ask(uint64_t first, uint64_t end, TurnKind turn);
  void begin(Part& part);
  void ask_for_the_rest();
  void something_landed();
  void step();
  void open_header();
  bool tell(uint32_t layer);
  void doubt(uint32_t layer);
  void doubt_object(const std::string& why);
  void cut_short(Part& part);
  void on_part(Part& part, Result<S3Answer> answer);
  void finish(Result<Chunk> result);
  void let_go();

  Service& service_;
  Owner* owner_;
  TierReadRequest request_;
  Tier::OnLayer on_layer_;
  Tier::OnRead on_read_;

  SlotWriter writer_;  // outlives all parts
  std::unique_ptr<Header> header_;
  bool header_landed_ = false;
  bool object_doubted_ = false;
  std::optional<Chunk> chunk_;  // as the header says, once it has verified
  std::vector<Layer> layers_;
  uint32_t left_;  // layers that have not been told
  bool asked_for_the_rest_ = false;
  bool stepping_ = false;  // a step waits in the io_context
  std::vector<std::unique_ptr<Part>> parts_;
  Lifeline alive_;
};

}  // namespace baton::s3
