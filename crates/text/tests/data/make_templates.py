"""Writes templates.json: our own chat templates and what transformers renders with them."""
import datetime
import json
import transformers.utils.chat_template_utils as hf

NOW = 1_700_000_000


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)


hf.datetime = Frozen

TOOLS_TEMPLATE = r"""
{#- Tools, reasoning and tool calls in the manner of current models. #}
{%- set ns = namespace(last=messages|length - 1, open=true, seen=0) %}
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' ~ messages[0]['content'] ~ '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.open and message.role == "user" and message.content is string and not (message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.open = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant' }}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '\n<think>\n' + thought.strip('\n') + '\n</think>\n' }}
        {%- endif %}
        {{- '\n' + content }}
        {%- for call in message.tool_calls or [] %}
            {%- if (loop.first and content) or (not loop.first) %}{{- '\n' }}{%- endif %}
            {%- set call = call.function if call.function else call %}
            {{- '<tool_call>\n{"name": "' ~ call.name ~ '", "arguments": ' }}
            {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (loop.previtem and loop.previtem.role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\n<r>\n' + content + '\n</r>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
"""

DATED_TEMPLATE = r"""{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|head|>system<|/head|>\n\n" }}
{%- if tools is not none %}{{- "Environment: tools\n" }}{%- endif %}
{{- "Today: " + date_string + "\n" }}
{%- if tools is not none %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\n\n" }}{%- endfor %}
{%- endif %}
{{- system_message }}{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|/head|>\n\n'+ message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("Only one tool call at once!") }}{%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- call.name + ".call(" }}
        {%- for name, value in call.arguments | items %}{{- name + '="' + value|string + '"' }}{%- if not loop.last %}{{- ", " }}{%- endif %}{%- endfor %}
        {{- ")" }}
    {%- else %}
        {{- "<|head|>ipython<|/head|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- else %}{{- message.content }}{%- endif %}
    {%- endif %}
{%- endfor %}
"""

STRICT_TEMPLATE = r"""{%- set loop_messages = messages[1:] if messages[0]["role"] == "system" else messages -%}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list -%}
{%- set ns = namespace() -%}{%- set ns.index = 0 -%}
{%- for message in loop_messages if message.role in ["user", "assistant"] -%}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) -%}{{- raise_exception("roles must alternate: " ~ message.role) -}}{%- endif -%}
    {%- set ns.index = ns.index + 1 -%}
{%- endfor -%}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}{%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/TOOLS]" }}
        {%- endif %}
        {%- if loop.last and messages[0].role == "system" %}{{- "[INST] " + messages[0].content + "\n\n" + message["content"] + "[/INST]" }}{%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""

GENERATION_TEMPLATE = """{% for message in messages %}
    {%- if message.role == 'assistant' %}
A: {% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}

    {%- else %}
U: {{ message.content }}
    {%- endif %}
{% endfor %}
"""

USER = {"role": "user", "content": "What's <b>up</b> & \"how\"? é 你 🦀\n"}
SYSTEM = {"role": "system", "content": "  Be brief.  "}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather of a 'city'", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "enum": ["Zürich", "Paris"]}, "days": {"type": "integer", "default": 1.0}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "stop", "description": "", "parameters": {}}},
]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "wet": True, "x": None, "y": 0.5}}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "{\"t\": 20}"}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

CHATS = [
    ([USER], None, {}), ([SYSTEM, USER], None, {}), ([SYSTEM, USER], TOOLS, {}), ([USER], TOOLS, {"enable_thinking": False}),
    ([USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nWell."}, USER], None, {"enable_thinking": True}),
    ([USER, CALL, RESULT], TOOLS, {}), ([USER, CALL, RESULT, RESULT, {"role": "assistant", "content": "20 °C", "reasoning_content": "it says"}], None, {"date_string": "1 Jan 2030"}),
    ([USER, USER], None, {}), ([USER, {"role": "assistant", "content": " ok "}], None, {}),
    ([USER, {**CALL, "tool_calls": CALL["tool_calls"] * 2}], None, {}),
]

SNIPPETS = [
    "{{ none }} {{ true }} {{ false }} {{ 1 }} {{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1.5e-7 }} {{ 123456789.0 }} {{ -3 }}",
    "{{ [1, 'a', \"it's\", none, true, 2.5] }} {{ {'a': 1, 'b': [1, {'c': 'd'}]} }} {{ (1, 'x') }} {{ [] }} {{ {} }}",
    "{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ ['b'] }}",
    "{{ [1, 'é<>&\\'\"', none, true, 1.0, 1e20] | tojson }} {{ {'b': 1, 'a': {}} | tojson(sort_keys=true) }}",
    "{{ {'a': [1, {'b': []}], 'c': {}} | tojson(indent=2) }}",
    "{{ {'a': [1, 2], 'b': 'é🦀'} | tojson(separators=(',', ':'), ensure_ascii=true) }}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{{ ',' if not loop.last }}{% endfor %}",
    "{{ undefined_thing }}|{{ undefined_thing is defined }}|{{ undefined_thing | default('x') }}|{{ undefined_thing or 'y' }}",
    "{{ 'Hello World'.upper() }} {{ 'hELLO wORLD'.title() }} {{ 'hello'.capitalize() }} {{ ' x '.strip() }}| {{ 'a,b,c'.split(',') }} {{ 'a-b-c'.split('-', 1) }} {{ 'aXbX'.replace('X', 'y') }} {{ 'abc'.find('c') }} {{ 'abcabc'.count('b') }}",
    "{{ 'abc'[1] }} {{ 'abc'[-1] }} {{ 'abcdef'[1:4] }} {{ 'abcdef'[::-1] }} {{ [1,2,3,4][::2] }} {{ [1,2,3][-2:] }}",
    "{{ ['b', 'a', 'c'] | sort | join('-') }} {{ ['a', 'b'] | map('upper') | list }} {{ [1,2,3] | sum }} {{ [3,1,2] | max }} {{ [1,2] | first }} {{ [1,2] | last }} {{ 'abc' | length }} {{ [1,1,2] | unique | list }} {{ 'x' | string }} {{ '3' | int + 1 }} {{ [1, 2] | reverse | list }}",
    "{% macro greet(name, greeting='Hi') %}{{ greeting }} {{ name }}!{% endmacro %}{{ greet('you') }} {{ greet('me', greeting='Yo') }}",
    "{% set x %}<{{ messages[0].role }}>{% endset %}{{ x }}{{ x | length }}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}{% for k in {'z': 1, 'y': 2} %}{{ k }}{% endfor %} {{ {'a': 1}.get('a') }} {{ {'a': 1}.get('b', 'none') }} {{ {'a': 1}['b'] is defined }} {{ {'k': 1}.keys() | list }}",
    "{% for m in messages -%}\n  {{ loop.index }}/{{ loop.length }} {{ m.role -}}\n{% endfor %}\n  {% if true %}\n  yes\n  {% endif %}\nend",
    "{{ 1 is number }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is sequence }} {{ none is none }} {{ [] is iterable }} {{ none is iterable }} {{ 'a' is iterable }} {{ true is boolean }} {{ 2 is even }} {{ 1 in [1, 2] }} {{ 'a' not in 'abc' }} {{ 'role' in messages[0] }}",
    "{{ 7 // 2 }} {{ 7 / 2 }} {{ 7 % 3 }} {{ 2 ** 10 }} {{ 'ab' * 3 }} {{ 'a' if 1 > 2 else 'b' }} {{ (1 if false) is defined }} {{ [1] + [2] }} {{ not 1 }}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %A %a %B %b %j %y %I %p') }} {{ strftime_now('%-d/%-m') }}",
    "{{ namespace(a=1).a }}{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'eq', 'user') | list | length }}",
    "{% if messages[0].missing %}a{% else %}b{% endif %}{{ messages[0].missing is defined }}{{ messages[0].get('missing') is none }}",
    "{{ messages[5].role }}",
    "{{ raise_exception('no ' ~ messages[0].role) }}",
    "{{ 'a\\nb\\nc' | indent(2) }}|{{ 'abc' | truncate(2) if false else 'n' }}|{{ 'a b' | trim | upper | lower }}|{{ 'x'.join(['1', '2']) }}|{{ 'tEst'.lower().startswith('te') }}|{{ 'abc'.endswith(('c', 'd')) }}",
    "trailing newline\n",
    "{{ dict(a=1, b='x') }} {{ dict({'c': 2}) | tojson }}",
    "{{ ('%s is %d' | format('x', 3)) if false else 'skip' }}{# comment #}\n{#- trimmed -#}  z",
]


def render(template, messages, tools, extra):
    try:
        (text,), _ = hf.render_jinja_template([messages], tools=tools, chat_template=template, add_generation_prompt=True, **SPECIAL, **extra)
        return {"text": text}
    except Exception as error:
        return {"error": str(error) if type(error).__name__ == "TemplateError" else "any"}


cases, templates = [], []
for template in [TOOLS_TEMPLATE, DATED_TEMPLATE, STRICT_TEMPLATE, GENERATION_TEMPLATE]:
    templates.append(template)
    for messages, tools, extra in CHATS:
        cases.append({"template": templates.index(template), "messages": messages, "tools": tools, "extra": extra, **render(template, messages, tools, extra)})
for template in SNIPPETS:
    templates.append(template)
    messages = [SYSTEM, USER]
    cases.append({"template": templates.index(template), "messages": messages, "tools": None, "extra": {}, **render(template, messages, None, {})})
with open("templates.json", "w") as file:
    text = json.dumps({"now_unix": NOW, "special": SPECIAL, "templates": templates, "cases": cases}, ensure_ascii=False, separators=(",", ":"))
    file.write(text.replace(',{"template"', ',\n{"template"') + "\n")
print(sum("error" in c for c in cases), "errors of", len(cases), [(i, c["error"]) for i, c in enumerate(cases) if "error" in c])
