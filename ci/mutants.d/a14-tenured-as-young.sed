# A `WouldBlock` of a tenured descriptor is believed, although its edge may have passed.
# file: src/reactor.rs
# test: --test signals injected::a14_eagain_on_every_third_read_is_not_noticed
/(_, Tenure::Tenured) => {/,/^            }/d
