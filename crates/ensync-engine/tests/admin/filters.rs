//! Lists of which only some is wanted.

use ensync_core::Settlement;
use serde_json::{Value, json};

use super::client::{Engine, encoded};
use super::letters::World;

#[tokio::test]
async fn dead_letters_are_found_by_reason_and_age_and_settled_so() {
    let (world, deliveries) = World::with(6).await;
    for (n, delivery) in deliveries.iter().enumerate() {
        let reason = if n % 3 == 0 { "Timed out; <i>again</i>" } else { "no such order" };
        world.settle(delivery, Settlement::Discard { reason: reason.into() }).await;
    }
    let all = world.listed("").await;
    assert_eq!((all.len(), &all[0]["app_name"]), (12, &json!("stock")));
    assert_eq!(world.listed("?reason=TIMED").await.len(), 4);
    assert_eq!(world.listed("?reason=timed&event=c").await.len(), 2);
    assert_eq!(world.listed(&format!("?reason={}", encoded("<i>again"))).await.len(), 4);
    assert_eq!(world.listed("?reason=nothing").await, Vec::<Value>::new());
    let at = all.iter().map(|letter| letter["at"].as_u64().unwrap());
    let (first, last) = (at.clone().min().unwrap(), at.max().unwrap());
    assert_eq!(world.listed(&format!("?since={first}&before={}", last + 1)).await.len(), 12);
    assert_eq!(
        world.listed(&format!("?before={first}")).await.len()
            + world.listed(&format!("?since={}", last + 1)).await.len(),
        0
    );
    // Pages of those that are meant.
    let page = world.engine.call("GET", "/v1/dead-letters?reason=order&limit=5", None).await.ok(200);
    let rest = world.listed(&format!("?reason=order&limit=5&after={}", page["next"].as_str().unwrap())).await;
    assert_eq!((page["dead_letters"].as_array().unwrap().len(), rest.len()), (5, 3));

    let ids = |letters: &[Value]| letters.iter().map(|letter| letter["id"].clone()).collect::<Vec<_>>();
    let [a, b] = [&all[0]["id"], &all[1]["id"]];
    assert_eq!(world.post("drop", json!({"ids": [a, b, b]})).await, 2, "one of them is named twice");
    assert_eq!(world.post("drop", json!({"ids": ids(&all[..3])})).await, 1, "two of them are gone already");
    assert_eq!(world.post("drop", json!({"reason": "timed", "app": world.stock})).await, 3);
    assert_eq!(world.post("requeue", json!({"since": first, "before": last + 1, "event": "c"})).await, 4);
    assert_eq!(world.listed("").await.len(), 2);
}

#[tokio::test]
async fn what_is_meant_by_a_filter_has_to_be_clear() {
    let engine = Engine::start().await;
    let (none, many) = (json!({"ids": []}), json!({"ids": vec!["x"; 1_001]}));
    for which in
        [none, many, json!({"reason": "a", "all": true}), json!({"ids": ["x"], "event": "a"}), json!({"reason": ""})]
    {
        engine.call("POST", "/v1/dead-letters/drop", Some(which)).await.refused(422, "invalid_input");
    }
    engine.call("GET", "/v1/dead-letters?reason=", None).await.refused(422, "invalid_input");
    engine.call("GET", "/v1/dead-letters?since=x", None).await.refused(400, "invalid_input");
}

#[tokio::test]
async fn apps_are_found_by_a_part_of_their_name_or_id_and_by_whether_they_may_log_in() {
    let engine = Engine::start().await;
    let mut ids = Vec::new();
    for name in ["Shop north", "shop south", "warehouse"] {
        ids.push(engine.create_app(name).await.0);
    }
    engine.call("POST", &format!("/v1/apps/{}/disable", encoded(&ids[1])), None).await.ok(200);
    let names = async |query: &str| {
        let found = engine.call("GET", &format!("/v1/apps?{query}"), None).await.ok(200);
        let mut names: Vec<_> =
            found["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names("search=SHOP").await, ["Shop north", "shop south"]);
    assert_eq!(names("search=shop&enabled=true").await, ["Shop north"]);
    assert_eq!(names("enabled=false").await, ["shop south"]);
    assert_eq!(names(&format!("search={}", encoded(&ids[2][..20]))).await, ["warehouse"]);
    assert_eq!(names("search=nothing").await, [""; 0]);
    let (mut all, mut after) = (0, String::new());
    loop {
        let page = engine.call("GET", &format!("/v1/apps?search=o&limit=1{after}"), None).await.ok(200);
        all += page["apps"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={}", encoded(next));
    }
    assert_eq!(all, 3);
    for query in ["search=", "search=a&name=b", "enabled=true&name=b"] {
        engine.call("GET", &format!("/v1/apps?{query}"), None).await.refused(422, "invalid_input");
    }
    engine.call("GET", "/v1/apps?enabled=perhaps", None).await.refused(400, "invalid_input");
}
