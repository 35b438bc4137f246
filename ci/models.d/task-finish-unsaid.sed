# The end of the loop does not tell those who hold the name of a task.
# file: src/task/table.rs
# fails: task_b7_wakes_and_aborts_that_meet_the_end_of_the_loop_do_nothing
/^    pub(crate) fn drain/,/^    }/s/^                name\.finish();$//
