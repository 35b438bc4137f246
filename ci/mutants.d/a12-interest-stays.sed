# An interest stays in its place after it has fired.
# file: src/reactor.rs
# test: --test it fd::a12_se12_unread_data_does_not_spin_the_loop
# test: --test model g23_
s/^            take(self\.map(direction), fd, woken);/&/
/^            take(self\.map(direction), fd, woken);/a\            if let Some(waker) = woken.last().cloned() { self.map(direction).insert(fd, Waiters::new(waker, true)); }
