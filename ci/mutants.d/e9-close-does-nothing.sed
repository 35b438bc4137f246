# Closing a connection does not tell the peer.
# file: src/net/stream.rs
# test: --test it tcp_faults::e9_sf5_closing_ends_the_request_and_the_reply_still_comes
s/match socket::shutdown_write(self) {/match Ok::<(), io::Error>(()) {/
