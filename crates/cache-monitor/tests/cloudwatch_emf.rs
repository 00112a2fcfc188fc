//! The example for CloudWatch, run.

#[path = "../examples/cloudwatch_emf.rs"]
#[expect(dead_code, reason = "its main is for running it by hand")]
mod example;

#[tokio::test]
async fn the_example_writes_lines_in_the_embedded_metric_format() {
    let mut log = Vec::new();
    example::run(&mut log).await.unwrap();
    let log = String::from_utf8(log).unwrap();
    assert!(log.lines().all(|line| line.starts_with(r#"{"_aws":"#)));
    for part in [
        r#""Namespace":"Geo""#,
        r#""Name":"cache_ops_total","Unit":"Count""#,
        r#""Name":"cache_op_seconds","Unit":"Seconds""#,
        r#""outcome":"hit""#,
        r#""outcome":"miss""#,
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
}
