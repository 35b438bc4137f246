# The loop is borrowed while wakers run.
# file: src/runtime.rs
# test: --test it hostile::a16_a_read_of_tcp_with_hostile_wakers_in_12_cases
s/^    woken\.drain(\.\.)\.for_each(wake_contained);/    with(|_| woken.drain(..).for_each(wake_contained));/
