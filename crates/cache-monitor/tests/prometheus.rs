//! The example for Prometheus, run.

#[path = "../examples/prometheus.rs"]
#[expect(dead_code, reason = "its main is for running it by hand")]
mod example;

#[tokio::test]
async fn the_example_shows_hits_misses_and_times() {
    let mut page = Vec::new();
    example::run(&mut page).await.unwrap();
    let page = String::from_utf8(page).unwrap();
    for line in [
        "# TYPE cache_ops_total counter",
        r#"cache_ops_total{backend="memory",op="get",outcome="hit"} 1"#,
        r#"cache_ops_total{backend="memory",op="get",outcome="miss"} 1"#,
        r#"cache_ops_total{backend="memory",op="set",outcome="ok"} 1"#,
        r#"cache_op_seconds_count{backend="memory",op="get"} 2"#,
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
}
