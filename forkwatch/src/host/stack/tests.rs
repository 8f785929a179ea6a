use super::*;

#[test]
#[ignore = "temporary"]
fn show() {
    let pid: u32 = std::env::var("P").unwrap().parse().unwrap();
    let tid: u32 = std::env::var("T").map_or(pid, |t| t.parse().unwrap());
    let stacks = if std::env::var("FULL").is_ok() { Stacks::Full } else { Stacks::Light };
    let key = Stat::of_process(pid).unwrap().key();
    let start = Instant::now();
    let stack = of_thread(key, tid, stacks);
    let took = start.elapsed();
    for frame in &stack.frames {
        println!("  {} {}+{:#x}", frame.function.as_deref().unwrap_or("?"), frame.module.as_deref().unwrap_or("?"), frame.offset.unwrap_or(0));
    }
    println!("missing: {:?}, took {took:?}", stack.missing);
    if let Ok(address) = std::env::var("A") {
        println!("symbol: {:?}", symbol(key, u64::from_str_radix(&address, 16).unwrap()));
    }
}
