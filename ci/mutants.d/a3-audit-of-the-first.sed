# Only the first tenured descriptors are looked at: are they still open?
# file: src/reactor/victims.rs
# test: --test tenure a3_of_many_old_descriptors_each_that_is_closed_behind_the_loop_is_found
s/if self\.audited < self\.sources\.len() {/if self.audited == self.sources.len() {/
