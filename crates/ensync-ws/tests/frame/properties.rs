//! What is written is read as it was, and nothing that is read does harm.

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn any_name()(segments in prop::collection::vec("[a-z0-9_.=:é-]{0,11}[a-z0-9_=:é-]", 1..4)) -> EventName {
        EventName::parse(&segments.join("/")).unwrap()
    }
}

prop_compose! {
    fn any_id()(text in "[!-+.-:<-z|~-]{1,40}") -> EventId {
        EventId::parse(&text).unwrap()
    }
}

/// Metadata whose text survives as it is: a semicolon comes back in another spelling.
fn any_metadata() -> impl Strategy<Value = Metadata> {
    let text = "[^;\\\\]{0,12}";
    prop::collection::btree_map(
        text,
        prop_oneof![text.prop_map(Into::into), any::<i64>().prop_map(serde_json::Value::from)],
        0..4,
    )
    .prop_map(|fields| Metadata::from_fields(fields.into_iter().collect()).unwrap())
}

fn any_settlement() -> impl Strategy<Value = Command> {
    let how = prop_oneof![
        Just(Settlement::Ack),
        Just(Settlement::Rollback),
        Just(Settlement::Release),
        Just(Settlement::Extend),
        any::<String>().prop_map(|reason| Settlement::Discard { reason }),
        (prop_oneof![Just(0), 1_000..=86_400_000_u64], any::<String>()).prop_map(|(ms, reason)| {
            Settlement::Defer { delay: Delay::from_millis(ms).unwrap(), priority: 0, reason }
        }),
    ];
    (any_id(), prop::option::of(any_name()), 1..=Block::MAX, how).prop_map(|(id, event, block, how)| {
        // The grammar has no name in these.
        let nameless = matches!(how, Settlement::Rollback | Settlement::Release | Settlement::Extend);
        let event = event.filter(|_| !nameless);
        Command::Settle(Settle { id, event, block: Some(Block::new(block).unwrap()), how })
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let publish = (
        any_name(),
        any::<[u8; 32]>(),
        "[A-Za-z0-9+/_=-]{1,200}",
        any_metadata(),
        prop::option::of((0..=1u64 << 53, prop::collection::btree_map("[^;\\\\]{0,8}", Just(FieldType::Long), 0..3))),
        prop::option::of("[a-z0-9-]{1,30}"),
    )
        .prop_map(|(event, recipient, payload, metadata, shape, key)| {
            Command::Publish(Publish {
                event,
                recipient: AppId::from_bytes(recipient),
                payload: WirePayload::from_wire(payload),
                metadata,
                payload_metadata: shape.map(|(byte_size, skeleton)| PayloadMetadata {
                    byte_size,
                    field_count: Some(skeleton.len() as u64),
                    skeleton: Some(skeleton),
                    unread: false,
                }),
                idempotency_key: key.map(|key| IdempotencyKey::parse(&key).unwrap()),
            })
        });
    prop_oneof![
        3 => publish,
        3 => any_settlement(),
        1 => (any_name(), any::<u32>(), any::<u64>()).prop_map(|(event, max, bytes)| Command::Subscribe(Subscribe {
            event,
            max_in_flight: NonZeroU32::new(max),
            max_bytes_in_flight: NonZeroU64::new(bytes),
        })),
        1 => any_name().prop_map(|event| Command::Unsubscribe { event }),
        1 => any_name().prop_map(|event| Command::Continue { event }),
        1 => (any_name(), any::<String>()).prop_map(|(event, reason)| Command::Pause { event, reason }),
        1 => (any_id(), any_name()).prop_map(|(id, event)| Command::Replay { id, event }),
    ]
}

proptest! {
    #[test]
    fn a_written_request_is_read_as_it_was(command in any_command(), client_id in any_id()) {
        let client_id = ClientId::parse(client_id.as_str()).unwrap();
        let frame = write_request(&client_id, &command, Dialect::EXTENDED).unwrap();
        prop_assert_eq!(Request::parse(&frame).unwrap(), Request::Command { client_id, command });
    }

    #[test]
    fn a_written_record_is_read_as_it_was(
        event in any_name(),
        id in any_id(),
        block in 1..=Block::MAX,
        payload in any::<String>(),
        metadata in any_metadata(),
        keys in any::<(Option<[u8; 32]>, Option<[u8; 32]>)>(),
        timestamp in any::<Option<u64>>(),
        attempt in any::<Option<u32>>(),
        lease in any::<Option<u64>>(),
    ) {
        let delivery = Delivery {
            event,
            id,
            block: Block::new(block).unwrap(),
            payload: WirePayload::from_wire(payload),
            metadata,
            sender: keys.0.map(AppId::from_bytes),
            recipient: keys.1.map(AppId::from_bytes),
            timestamp: timestamp.map(Timestamp::from_millis),
            attempt,
            lease: lease.map(Duration::from_millis),
        };
        let frame = write_record(&delivery);
        let Pushed::Record(json) = Pushed::parse(&frame).unwrap() else { panic!("{frame}") };
        prop_assert_eq!(parse_record(json).unwrap(), delivery);
    }

    /// Frames that are nearly right: a valid one, cut, with something put in.
    #[test]
    fn no_frame_makes_the_reader_panic(
        command in any_command(),
        cut in any::<prop::sample::Index>(),
        put in prop_oneof![any::<String>(), ";[A-Z_]{0,8}=:".boxed(), "[\\[{\"]{0,300}".boxed()],
        keep in any::<bool>(),
    ) {
        let frame = write_request(&client_id(), &command, Dialect::EXTENDED).unwrap();
        let mut at = cut.index(frame.len() + 1);
        while !frame.is_char_boundary(at) {
            at -= 1;
        }
        let (head, tail) = frame.split_at(at);
        let broken = format!("{head}{put}{}", if keep { tail } else { "" });
        // Whatever is read can be written and read again.
        if let Ok(Request::Command { client_id, command }) = Request::parse(&broken) {
            let again = write_request(&client_id, &command, Dialect::EXTENDED).unwrap();
            prop_assert!(Request::parse(&again).is_ok(), "{again}");
        }
        let _ = Pushed::parse(&broken);
        let _ = parse_record(&broken);
    }
}
