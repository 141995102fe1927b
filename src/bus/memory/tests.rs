use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::message::event::EventData;
use crate::message::task::PlanTask;
use crate::message::{Control, Epoch, EventType, InboxMessage, JobId, Task, Wake};

fn task(epoch: u32) -> Outgoing {
    let job = JobId::parse("j").expect("valid");
    Outgoing::Task(Task::Plan(PlanTask { job, epoch: Epoch(epoch), root: Uuid::nil() }))
}

fn epoch(delivery: &Delivery) -> u32 {
    match serde_json::from_slice(&delivery.body).expect("a task") {
        Task::Plan(plan) => plan.epoch.0,
        Task::Chunk(chunk) => chunk.epoch.0,
    }
}

async fn next(consumer: &mut Consumer) -> Delivery {
    tokio::time::timeout(Duration::from_secs(5), consumer.next()).await.expect("in time").expect("open")
}

async fn nothing(consumer: &mut Consumer) -> bool {
    tokio::time::timeout(Duration::from_millis(30), consumer.next()).await.is_err()
}

#[tokio::test]
async fn the_prefetch_bounds_what_is_out_and_an_ack_makes_room() {
    let session = MemoryBus::new().connect().await.expect("connects");
    session.publish_all((0..3).map(task).collect()).await.expect("published");
    let mut consumer = session.subscribe(Queue::Work, 2).await.expect("subscribed");
    let (a, b) = (next(&mut consumer).await, next(&mut consumer).await);
    assert_eq!((epoch(&a), epoch(&b)), (0, 1));
    assert!(nothing(&mut consumer).await);
    assert_eq!(session.ready(Queue::Work).await.expect("counted"), 1);
    a.settle.ack().await.expect("acknowledged");
    assert_eq!(epoch(&next(&mut consumer).await), 2);
}

#[tokio::test]
async fn a_released_message_comes_again_and_says_so() {
    let session = MemoryBus::new().connect().await.expect("connects");
    let mut consumer = session.subscribe(Queue::Work, 1).await.expect("subscribed");
    session.publish(task(7)).await.expect("published");
    let first = next(&mut consumer).await;
    assert!(!first.redelivered);
    first.settle.release().await.expect("released");
    let again = next(&mut consumer).await;
    assert!(again.redelivered && epoch(&again) == 7);
}

#[tokio::test]
async fn a_dropped_consumer_gives_back_what_it_never_took_and_keeps_what_it_holds() {
    let session = MemoryBus::new().connect().await.expect("connects");
    session.publish_all((0..3).map(task).collect()).await.expect("published");
    let mut consumer = session.subscribe(Queue::Work, 3).await.expect("subscribed");
    let held = next(&mut consumer).await;
    drop(consumer);
    let mut successor = session.subscribe(Queue::Work, 3).await.expect("subscribed");
    let (a, b) = (next(&mut successor).await, next(&mut successor).await);
    assert_eq!((epoch(&a), epoch(&b)), (1, 2));
    held.settle.ack().await.expect("the first is still settled by its holder");
    assert!(nothing(&mut successor).await);
}

#[tokio::test]
async fn the_end_of_a_session_redelivers_what_it_held_and_its_acks_are_stale() {
    let bus = MemoryBus::new();
    let (one, two) = (bus.connect().await.expect("connects"), bus.connect().await.expect("connects"));
    one.publish(task(1)).await.expect("published");
    let mut consumer = one.subscribe(Queue::Work, 1).await.expect("subscribed");
    let held = next(&mut consumer).await;
    one.close().await;
    assert!(one.closed().is_cancelled() && consumer.next().await.is_none());
    assert!(matches!(held.settle.ack().await, Err(BusError::Closed)));
    assert!(matches!(one.publish(task(2)).await, Err(BusError::Closed)));
    let mut successor = two.subscribe(Queue::Work, 1).await.expect("subscribed");
    assert!(next(&mut successor).await.redelivered);
}

#[tokio::test]
async fn one_coordinator_is_active_until_it_goes() {
    let bus = MemoryBus::new();
    let (one, two) = (bus.connect().await.expect("connects"), bus.connect().await.expect("connects"));
    let mut active = one.subscribe(Queue::Coordinator, 10).await.expect("subscribed");
    let mut waiting = two.subscribe(Queue::Coordinator, 10).await.expect("subscribed");
    let wake = || Outgoing::Inbox(InboxMessage::Wake(Wake::default()));
    one.publish_all(vec![wake(), wake()]).await.expect("published");
    next(&mut active).await.settle.ack().await.expect("acknowledged");
    assert!(nothing(&mut waiting).await);
    drop(active);
    assert!(next(&mut waiting).await.redelivered);
}

#[tokio::test]
async fn work_is_shared_and_control_reaches_everybody() {
    let bus = MemoryBus::new();
    let (one, two) = (bus.connect().await.expect("connects"), bus.connect().await.expect("connects"));
    let mut works = [
        one.subscribe(Queue::Work, 5).await.expect("subscribed"),
        two.subscribe(Queue::Work, 5).await.expect("subscribed"),
    ];
    one.publish_all((0..4).map(task).collect()).await.expect("published");
    for work in &mut works {
        next(work).await;
        next(work).await;
        assert!(nothing(work).await);
    }
    let job = JobId::parse("j").expect("valid");
    one.publish(Outgoing::Control(Control::Cancel { job })).await.expect("published");
    for session in [&one, &two] {
        let mut control = session.subscribe(Queue::Control, 5).await.expect("subscribed");
        next(&mut control).await;
        assert!(nothing(&mut control).await);
    }
}

#[tokio::test]
async fn events_reach_whoever_listens() {
    let bus = MemoryBus::new();
    let mut events = bus.events();
    let session = bus.connect().await.expect("connects");
    let event =
        Event::new("p", EventType::JobAccepted, "j", None, Timestamp::UNIX_EPOCH, EventData::default());
    let outgoing = Outgoing::Event { event: Box::new(event.clone()), reply_to: None, correlation_id: None };
    session.publish(outgoing).await.expect("published");
    assert_eq!(events.recv().await.expect("an event"), event);
}
