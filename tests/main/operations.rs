//! Follows the instructions for RabbitMQ in `docs/OPERATIONS.md`.

use std::process::{Child, Command, Stdio};

use async_rs::Runtime;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;

use crate::support::{
    Borrowed, Database, PATIENCE, Services, Site, block_on, eventually, manual, project, python, said,
};

/// The users of the documentation. Their passwords are their names here.
const USERS: [&str; 4] = ["daemon", "publisher", "observer", "operator"];

fn site(servers: &Borrowed) -> Site {
    let db = Database::on(**servers);
    db.execute("CREATE TABLE small AS SELECT generate_series(1, 1000) AS id");
    let site = Site::on(**servers, db);
    let definitions = manual::file("config/rabbitmq/definitions.json", &site.broker.prefix);
    std::fs::create_dir_all(site.path("config/rabbitmq")).expect("a directory");
    std::fs::write(site.path("config/rabbitmq/definitions.json"), definitions).expect("written");
    for user in USERS {
        std::fs::write(site.path(&format!("{user}.password")), format!("{user}\n")).expect("written");
    }
    site
}

/// An action that a user of the broker may or may not do.
#[derive(Clone, Copy, Debug)]
enum Deed<'a> {
    Declare(&'a str),
    Delete(&'a str),
    Purge(&'a str),
    Bind(&'a str, &'a str),
    Consume(&'a str),
    Publish(&'a str, &'a str),
}

use Deed::{Bind, Consume, Declare, Delete, Publish, Purge};

fn connected(url: &str) -> Connection {
    let options = ConnectionProperties::default();
    let connect = async { Connection::connect_with_runtime(url, options, Runtime::tokio_current()).await };
    block_on(connect).expect("connect")
}

/// The connection of a user.
struct User(Connection);

impl User {
    fn connect(servers: &Services, name: &str) -> Self {
        let url = servers.url_of(&format!("adu-{name}"), name);
        Self(connected(&url))
    }

    /// Whether the broker allows the action. Names come without the prefix.
    #[track_caller]
    fn may(&self, prefix: &str, deed: Deed<'_>) -> bool {
        let Err(error) = block_on(self.attempt(prefix, deed)) else { return true };
        assert!(error.to_string().contains("ACCESS_REFUSED"), "{deed:?}: {error}");
        false
    }

    async fn attempt(&self, prefix: &str, deed: Deed<'_>) -> lapin::Result<()> {
        let name = |name: &str| -> ShortString {
            match name {
                "" => "".into(),
                "direct" => prefix.into(),
                _ => format!("{prefix}.{name}").into(),
            }
        };
        // The broker closes a channel when it refuses an action.
        let channel = self.0.create_channel().await?;
        let none = FieldTable::default;
        match deed {
            Declare(queue) => {
                channel.queue_declare(name(queue), QueueDeclareOptions::exclusive(), none()).await?;
            }
            Delete(queue) => {
                channel.queue_delete(name(queue), QueueDeleteOptions::default()).await?;
            }
            Purge(queue) => {
                channel.queue_purge(name(queue), QueuePurgeOptions::default()).await?;
            }
            Bind(queue, exchange) => {
                let options = QueueBindOptions::default();
                channel.queue_bind(name(queue), name(exchange), "#".into(), options, none()).await?;
            }
            Consume(queue) => {
                let options = BasicConsumeOptions::default();
                channel.basic_consume(name(queue), "".into(), options, none()).await?;
            }
            Publish(exchange, key) => {
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                let key = if exchange.is_empty() { name(key) } else { key.into() };
                let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                channel.basic_publish(name(exchange), key, options, b"{}", properties).await?.await?;
            }
        }
        Ok(())
    }
}

/// The example publisher, started as the documentation says.
fn publisher(servers: &Services, site: &Site, job: &str) -> Child {
    let request = json!({"job_id": job, "tables": ["public.small"]});
    std::fs::write(site.path("request.json"), request.to_string()).expect("written");
    let url = servers.url_of("adu-publisher", "publisher");
    let exchange = format!("{}.submit", site.broker.prefix);
    Command::new(python())
        .arg(project().join("examples/publisher.py"))
        .args(["--url", &url, "--prefix", &site.broker.prefix, "--exchange", &exchange, "request.json"])
        .current_dir(site.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run Python")
}

#[test]
fn each_user_can_do_its_part_and_no_more() {
    let servers = Services::borrow();
    let site = site(&servers);
    let prefix = site.broker.prefix.as_str();
    // Delete the queues that `check` has made, so that daemons must make them with their own rights.
    for queue in ["requests", "work", "coordinator"] {
        site.broker.delete(queue);
    }
    for exchange in [prefix.to_owned(), format!("{prefix}.control")] {
        site.broker.delete_exchange(&exchange);
    }
    for commands in manual::blocks("### Permissions", "sh", prefix) {
        servers.operate(&site.path(""), &commands);
    }

    // No daemon takes the request yet, and the connection is lost. The publisher sends it again, and there is
    // one job.
    let publishing = publisher(&servers, &site, "published");
    eventually("the request is there", PATIENCE, || (site.broker.ready("requests") == 1).then_some(()));
    servers.close_connections(&["close_all_user_connections", "adu-publisher", "bye"]);
    eventually("it is there again", PATIENCE, || (site.broker.ready("requests") == 2).then_some(()));
    let mut config = site.config();
    config["broker"]["url"] = json!(servers.url_of("adu-daemon", "daemon"));
    let observer = User::connect(&servers, "observer");
    for deed in [Declare("observer.mine"), Bind("observer.mine", "events"), Consume("observer.mine")] {
        assert!(observer.may(prefix, deed), "observer: {deed:?}");
    }
    let daemon = site.daemon_with(&config);
    let output = publishing.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("trying again"), "{}", said(&output));

    config["broker"]["url"] = json!(servers.url_of("adu-operator", "operator"));
    let client = site.write("operator.toml", &config);
    let submitted = site.run(&[
        "submit",
        "--config",
        &client,
        "--table",
        "public.small",
        "--job-id",
        "submitted",
        "--wait",
    ]);
    assert_eq!(submitted.status.code(), Some(0), "{}", said(&submitted));
    let body = json!({"job_id": "replied", "tables": ["public.small"]}).to_string();
    let reply = site.broker.call(body.as_bytes(), BasicProperties::default(), "mine");
    assert_eq!(reply["type"], "adu.export.job.completed", "a daemon may reply: {reply}");

    let nobody = [
        Declare("foreign"),
        Purge("requests.dead"),
        Consume("requests.dead"),
        Delete("requests.dead"),
        Bind("requests.dead", "events"),
    ];
    let only_daemons = [
        Declare("requests"),
        Delete("work"),
        Purge("work"),
        Publish("", "requests"),
        Publish("events", "job.completed.x.y"),
        Publish("control", ""),
        Consume("requests"),
        Consume("coordinator"),
        Bind("requests", "events"),
    ];
    let own: [&[Deed<'_>]; 4] = [
        &[Declare("client.x"), Bind("control.x", "events"), Publish("submit", "request")],
        &[Publish("direct", "work"), Publish("direct", "wake"), Bind("client.x", "direct")],
        &[Publish("direct", "request"), Publish("submit", "request"), Bind("observer.x", "control")],
        &[Bind("client.x", "direct"), Bind("client.x", "control"), Declare("observer.x")],
    ];
    for (name, own) in USERS.into_iter().zip(own) {
        let user = User::connect(&servers, name);
        let daemons: &[Deed<'_>] = if name == "daemon" { &[] } else { &only_daemons };
        for deed in own.iter().chain(daemons).chain(&nobody) {
            assert!(!user.may(prefix, *deed), "{name}: {deed:?}");
        }
    }
    site.assert_sound(&["published", "submitted", "replied"], [daemon]);
}

#[test]
fn a_request_that_comes_back_too_often_is_kept_and_can_be_moved_back() {
    let servers = Services::borrow();
    let site = site(&servers);
    let prefix = site.broker.prefix.as_str();
    servers
        .operate(&site.path(""), "rabbitmqctl import_definitions \"$PWD/config/rabbitmq/definitions.json\"");
    for commands in manual::blocks("### Limits", "sh", prefix) {
        servers.operate(&site.path(""), &commands);
    }
    let job = site.request(json!({"tables": ["public.small"]}));

    let connection = connected(&servers.url());
    let channel = block_on(connection.create_channel()).expect("a channel");
    let queue = format!("{prefix}.requests");
    let mut deliveries = 0;
    eventually("it is delivered no more", PATIENCE, || {
        while let Some(message) =
            block_on(channel.basic_get(queue.as_str().into(), BasicGetOptions::default())).expect("get")
        {
            deliveries += 1;
            let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            block_on(message.nack(requeue)).expect("nack");
        }
        (site.broker.ready("requests.dead") == 1).then_some(())
    });
    assert_eq!(deliveries, 1001, "one delivery, and as many again as the policy says");
    assert_eq!(site.broker.ready("requests"), 0);

    let [code] = &manual::blocks("### Limits", "python", prefix)[..] else { panic!("one example") };
    let ours = code.replace("amqp://guest:guest@127.0.0.1:5672/%2f", &servers.url());
    manual::run_python(&ours, &site.path(""));
    assert_eq!((site.broker.ready("requests"), site.broker.ready("requests.dead")), (1, 0));
    let daemon = site.daemon();
    site.completed(&job);
    site.assert_sound(&[&job], [daemon]);
}
