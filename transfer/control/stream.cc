#include "transfer/control/stream.h"

#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <string_view>

namespace baton::control {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

class PlainStream final : public Stream {
 public:
  explicit PlainStream(Socket socket) : socket_(std::move(socket)) {}

  Socket& socket() override { return socket_; }
  void handshake(Done done) override { done({}, 0); }
  void read_some(boost::asio::mutable_buffer to, Done done) override {
    socket_.async_read_some(to, std::move(done));
  }
  void write(const std::vector<boost::asio::const_buffer>& from, Done done) override {
    boost::asio::async_write(socket_, from, std::move(done));
  }
  std::optional<Digest> exported_key() override { return std::nullopt; }

 private:
  Socket socket_;
};

class TlsStream final : public Stream {
 public:
  TlsStream(Socket socket, TlsContext context, bool dialled)
      : context_(std::move(context)), stream_(std::move(socket), *context_), dialled_(dialled) {}

  Socket& socket() override { return stream_.next_layer(); }
  void handshake(Done done) override {
    stream_.async_handshake(dialled_ ? ssl::stream_base::client : ssl::stream_base::server,
                            [done = std::move(done)](const error_code& error) { done(error, 0); });
  }
  void read_some(boost::asio::mutable_buffer to, Done done) override {
    stream_.async_read_some(to, [done = std::move(done)](error_code error, size_t bytes) {
      // Frames say how long they are, so an end without close_notify is an end like any other.
      if (error == ssl::error::stream_truncated) error = boost::asio::error::eof;
      done(error, bytes);
    });
  }
  void write(const std::vector<boost::asio::const_buffer>& from, Done done) override {
    boost::asio::async_write(stream_, from, std::move(done));
  }
  std::optional<Digest> exported_key() override {
    constexpr std::string_view kLabel = "EXPORTER-baton-session";
    Digest key;
    if (SSL_export_keying_material(stream_.native_handle(), key.data(), key.size(), kLabel.data(),
                                   kLabel.size(), nullptr, 0, 0) != 1) {
      return std::nullopt;
    }
    return key;
  }

 private:
  const TlsContext context_;
  ssl::stream<Socket> stream_;
  const bool dialled_;
};

}  // namespace

std::unique_ptr<Stream> Stream::create(Socket socket, const TlsContext& tls, bool dialled) {
  if (!tls) return std::make_unique<PlainStream>(std::move(socket));
  return std::make_unique<TlsStream>(std::move(socket), tls, dialled);
}

}  // namespace baton::control
