// Whose turn it is to use one of the bounded number of connections.
//
// What is waited for comes first: look-ups, then the first layers of chunks, then their rest.
// Stores, erasing and listing are the background: they come last and never have more than their
// share, so that there is always a connection that a read gets soon.
//
// Thread safety: confined to the io_context's thread.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>

namespace baton::s3 {

enum class TurnKind : uint8_t { kLookup, kFirstLayer, kLayers, kBackground };

class Turns {
  struct State;
  struct Entry;

 public:
  // `background`: how many of the connections that may have at once.
  Turns(boost::asio::io_context& io, uint32_t connections, uint32_t background);
  ~Turns();

  // A place in the queue, then a connection; destroying it gives up either.
  class Place {
   public:
    ~Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    friend class Turns;
    Place(std::shared_ptr<State> state, std::shared_ptr<Entry> entry);
    const std::shared_ptr<State> state_;
    const std::shared_ptr<Entry> entry_;
  };

  // `go` runs once it has a connection, never inside this, unless the place is given up before.
  std::unique_ptr<Place> ask(TurnKind kind, std::function<void()> go);
  // Null where there is no connection now, or somebody waits for one.
  std::unique_ptr<Place> ask_now(TurnKind kind);

  uint32_t active() const;

 private:
  const std::shared_ptr<State> state_;
};

}  // namespace baton::s3
