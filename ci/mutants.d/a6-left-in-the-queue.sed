# What is no longer registered is still watched by the kernel's queue.
# file: src/reactor.rs
# test: --test it fd::a6_a_descriptor_that_was_taken_back_no_longer_wakes_the_loop
/pub(crate) fn deregister/,/^    }/s/source\.tenure == Tenure::Tenured/source.tenure != Tenure::Tenured/
