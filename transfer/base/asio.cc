// Asio's and Beast's code that is no template, compiled once for all (see baton_asio).
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
