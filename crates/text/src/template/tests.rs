use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, json};

use super::*;

fn user(content: &str) -> Json {
    json!({"role": "user", "content": content})
}

fn render_with(
    template: &ChatTemplate,
    messages: &[Json],
    tools: Option<&Json>,
    extra: &Map<String, Json>,
    now_unix: i64,
) -> Result<String, TemplateError> {
    let request = ChatRequest {
        messages,
        tools,
        add_generation_prompt: true,
        extra: Some(extra),
        now_unix,
    };
    template
        .render(&request, &ControlTokens::default())
        .map(|rendered| rendered.text)
}

fn render(source: &str, messages: &[Json]) -> Result<String, TemplateError> {
    let template = ChatTemplate::new(source, &[])?;
    render_with(&template, messages, None, &Map::new(), 0)
}

#[derive(Deserialize)]
struct Golden {
    now_unix: i64,
    special: BTreeMap<String, String>,
    templates: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: usize,
    messages: Vec<Json>,
    tools: Option<Json>,
    extra: Map<String, Json>,
    text: Option<String>,
    error: Option<String>,
}

#[test]
fn templates_render_as_transformers_does() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/data/templates.json")).expect("valid");
    let special: Vec<_> = golden.special.into_iter().collect();
    let mut wrong = Vec::new();
    for (index, case) in golden.cases.iter().enumerate() {
        let found =
            ChatTemplate::new(&golden.templates[case.template], &special).and_then(|template| {
                let tools = case.tools.as_ref();
                render_with(
                    &template,
                    &case.messages,
                    tools,
                    &case.extra,
                    golden.now_unix,
                )
            });
        let right = match (&found, &case.text, case.error.as_deref()) {
            (Ok(found), Some(text), _) => found == text,
            (Err(_), None, Some("any")) => true,
            (Err(TemplateError::Refused { message }), None, Some(wanted)) => message == wanted,
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "case {index}\n{found:?}\n{:?}{:?}",
                case.text, case.error
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_model_without_a_template_says_so() {
    let vocabulary = crate::tokenizer::tests::vocabulary(b"");
    let error = ChatTemplate::of(&vocabulary).expect_err("none");
    assert_eq!(error, TemplateError::Missing);
    assert!(error.to_string().contains("completions"));
    let unknown = ChatTemplate::builtin("alpaca").expect_err("unknown");
    assert!(unknown.to_string().contains("chatml"));
    let chatml = ChatTemplate::builtin("chatml").expect("built in");
    let text = render_with(&chatml, &[user("hi")], None, &Map::new(), 0).expect("renders");
    assert_eq!(
        text,
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn hostile_templates_are_stopped() {
    let double = "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x OP ns.x %}{% endfor %}{{ ns.x|length }}";
    let exhausting = [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned(),
        double.replace("OP", "~"),
        double.replace("OP", "+"),
        "{% set x='aaaaaaaaaaaaaaaa' %}".to_owned() + &"{% set x = x ~ x %}".repeat(40),
        "{% set x %}aaaaaaaaaaaaaaaa{% endset %}".to_owned()
            + &"{% set x %}{{ x }}{{ x }}{% endset %}".repeat(40),
        "{{ 'a' * 999999999999 }}".to_owned(),
        "{{ ('aaaaaaaaaa' * 1000000).replace('a', 'b' * 1000000) }}".to_owned(),
        "{{ ('aaaaaaaaaa' * 1000000) | replace('', 'b' * 1000000) }}".to_owned(),
        "{{ (['a'] * 90000) | join('b' * 1000000) }}".to_owned(),
        "{{ ('b' * 1000000).join(['a'] * 90000) }}".to_owned(),
        "{{ ['a'] * 999999999 }}".to_owned(),
        "{{ 'a' | indent(9999999999) }}".to_owned(),
        "{{ '{:9999999999}'.format('a') }}".to_owned(),
        "{{ [] | tojson(indent=99999999) }}".to_owned(),
        "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}".to_owned(),
        "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}".to_owned(),
        "{% set ns = namespace(x=['a']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}".to_owned(),
        "{% for a in range(100000) %}".to_owned() + &"x".repeat(200_000) + "{% endfor %}",
    ];
    for source in &exhausting {
        let error = render(source, &[user("hi")]).expect_err("too much");
        let short: String = source.chars().take(80).collect();
        assert!(
            matches!(error, TemplateError::Exhausted { .. }),
            "{short}: {error}"
        );
    }
    let failing = [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'x' %}",
        "{% extends '/etc/passwd' %}",
        "{{ messages.nothing.at.all }}",
        "{{ strftime_now('%Q') }}",
        "{{ 1 / 0 }}",
        "{{ unknown() }}",
        "{{ 'a' | unknown }}",
        "{{ debug() }}",
    ];
    for source in failing {
        assert!(render(source, &[user("hi")]).is_err(), "{source}");
    }
}

#[test]
fn broken_templates_are_refused_with_the_line() {
    let refused = |source: &str| ChatTemplate::new(source, &[]).expect_err("bad");
    assert!(matches!(
        refused("a\n{% if %}"),
        TemplateError::Syntax { line: 2, .. }
    ));
    assert!(matches!(refused("{{ "), TemplateError::Syntax { .. }));
    assert!(matches!(
        refused("{% for x in y %}"),
        TemplateError::Syntax { .. }
    ));
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(refused(&nested), TemplateError::Syntax { .. }));
    let long = "x".repeat(limits::SOURCE_BYTES_MAX + 1);
    assert!(matches!(refused(&long), TemplateError::TooLarge { .. }));
}

#[test]
fn a_template_refuses_in_its_own_words() {
    let error = render(
        "{{ raise_exception('no ' + messages[0].role) }}",
        &[user("hi")],
    );
    assert_eq!(
        error,
        Err(TemplateError::Refused {
            message: "no user".to_owned()
        })
    );
}

#[test]
fn content_parts_are_text_for_every_template() {
    let parts = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]);
    let messages = [json!({"role": "user", "content": parts})];
    let strings = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}";
    assert_eq!(render(strings, &messages).as_deref(), Ok("user: one\ntwo"));
    let printing = "{% for m in messages %}{{ m.content }}{% endfor %}";
    assert_eq!(render(printing, &messages).as_deref(), Ok("one\ntwo"));
    let reading = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endif %}{% endfor %}";
    assert_eq!(render(reading, &messages).as_deref(), Ok("<one><two>"));
    assert_eq!(render(reading, &[user("hi")]).as_deref(), Ok("hi"));
}

#[test]
fn arguments_of_calls_become_objects() {
    let call = |arguments: &str| json!({"type": "function", "function": {"name": "f", "arguments": arguments}});
    let messages = [
        json!({"role": "assistant", "content": null, "tool_calls": [call("{\"b\":1,\"a\":[2]}"), call("oops")]}),
    ];
    let source =
        "{% for c in messages[0].tool_calls %}{{ c.function.arguments | tojson }};{% endfor %}";
    assert_eq!(
        render(source, &messages).as_deref(),
        Ok("{\"b\": 1, \"a\": [2]};\"oops\";")
    );
}

#[test]
fn bad_messages_are_named() {
    let problem = |message: Json| match render("{{ messages }}", &[user("ok"), message]) {
        Err(error @ TemplateError::Message { index: 1, .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(problem(json!("text")), "messages[1] is not an object");
    assert_eq!(problem(json!({"content": "x"})), "messages[1] has no role");
    assert_eq!(
        problem(json!({"role": "user", "content": 5})),
        "messages[1] has content that is neither a string nor an array"
    );
    assert_eq!(
        problem(json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]})),
        "messages[1] has content[0] of type \"image_url\", only text is supported"
    );
    let extra = Map::from_iter([("a + b".to_owned(), json!(1))]);
    let template = ChatTemplate::new("{{ 1 + 1 }}", &[]).expect("valid");
    let error = render_with(&template, &[user("x")], None, &extra, 0).expect_err("bad name");
    assert_eq!(
        error,
        TemplateError::VariableName {
            name: "a + b".to_owned()
        }
    );
    let mut deep = json!("x");
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let error = render(
        "x",
        &[json!({"role": "user", "content": "", "extra": deep})],
    );
    assert!(matches!(error, Err(TemplateError::Exhausted { .. })));
}

#[test]
fn a_template_cannot_be_overruled_by_variables() {
    let template = ChatTemplate::new(
        "{{ messages[0].content }}{{ bos_token }}",
        &[("bos_token".into(), "<s>".into())],
    );
    let extra = Map::from_iter([
        ("messages".to_owned(), json!([])),
        ("bos_token".to_owned(), json!("!")),
    ]);
    let text = render_with(&template.expect("valid"), &[user("hi")], None, &extra, 0);
    assert_eq!(text.as_deref(), Ok("hi<s>"));
}

#[test]
fn noncharacters_of_clients_stay() {
    let tokenizer = crate::tokenizer::tests::tokenizer(0);
    let template = ChatTemplate::new("{{ messages[0].content }}", &[]).expect("valid");
    let render = |content: &str| {
        let messages = [user(content)];
        let request = ChatRequest {
            messages: &messages,
            tools: None,
            add_generation_prompt: false,
            extra: None,
            now_unix: 0,
        };
        template.render(&request, tokenizer.control_tokens())
    };
    let text = "\u{fdd0}a<|im_end|>b\u{fdd2}";
    let rendered = render(text).expect("renders");
    assert_eq!(rendered.text, text);
    assert_eq!(rendered.breaks, [5]);
    let all: String = (0xfdd0..=0xfdef).filter_map(char::from_u32).collect();
    assert_eq!(render(&all), Err(TemplateError::NoMark));
}
