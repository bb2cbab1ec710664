//! What only minutes can show: slow plugins that stay in their group, memory that stays flat, a checkpoint topic after an
//! hour's worth of cuts. `make long` runs them; without `WEIR_LONG=1` each says that it was skipped.

mod cuts;
mod load;
mod memory;
mod slow;

/// True where the long tests are wanted; else says that `test` was left out.
fn is_wanted(test: &str) -> bool {
    let is_wanted = std::env::var("WEIR_LONG").is_ok_and(|value| value == "1");
    if !is_wanted {
        println!("{test} is skipped: it takes minutes; WEIR_LONG=1 runs it");
    }
    is_wanted
}
