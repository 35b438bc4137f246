# A wait that a signal ends counts as a failure.
# file: src/sys/select.rs
# test: --test signals a7_fifty_reads_and_sleeps_are_in_time_under_a_thousand_signals_a_second
/Errno::EINTR => Waited::Ready(0),/d
