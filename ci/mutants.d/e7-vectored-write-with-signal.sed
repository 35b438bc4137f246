# A vectored write may raise SIGPIPE.
# file: src/sys/socket.rs
# test: --test sigpipe e7_j7_a_vectored_write_to_a_closed_peer_is_an_error_and_no_signal
s/\&\[\], NO_SIGNAL, None/\&[], MsgFlags::empty(), None/
