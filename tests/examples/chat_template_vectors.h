// Templates and what Jinja 3 makes of them (trim_blocks and lstrip_blocks, as transformers sets it
// up), to compare with.
#pragma once

#include <vector>

#include "examples/reference_engine/chat_template.h"

namespace baton::reference {

inline const std::vector<std::vector<ChatMessage>> kChats = {
    {{"user", "Hi"}},
    {{"system", "Be brief."},
     {"user", "  Hi there \n"},
     {"assistant", "Hello!"},
     {"user", "Bye <|im_end|>"}},
    {},
};

struct TemplateVector {
  const char* source;
  size_t chat;  // of kChats
  bool add_generation_prompt;
  const char* text;
};
inline const TemplateVector kTemplates[] = {
    {"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
     "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
     "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\n' }}{% endif %}",
     0, true,
     "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
     "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
     "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\n' }}{% endif %}",
     0, false,
     "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"},
    {"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
     "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
     "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\n' }}{% endif %}",
     1, true,
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n  Hi there "
     "\n<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye "
     "<|im_end|><|im_end|>\n<|im_start|>assistant\n"},
    {"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
     "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
     "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\n' }}{% endif %}",
     1, false,
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n  Hi there "
     "\n<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye "
     "<|im_end|><|im_end|>\n"},
    {"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
     "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
     "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\n' }}{% endif %}",
     2, true, "<|im_start|>assistant\n"},
    {"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
     "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
     "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
     "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\n' }}{% endif %}",
     2, false, ""},
    {"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
     "message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\\n' }}{% endif %}",
     0, true, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
     "message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\\n' }}{% endif %}",
     0, false, "<|im_start|>user\nHi<|im_end|>\n"},
    {"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
     "message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\\n' }}{% endif %}",
     1, true,
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n  Hi there "
     "\n<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye "
     "<|im_end|><|im_end|>\n<|im_start|>assistant\n"},
    {"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
     "message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\\n' }}{% endif %}",
     1, false,
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n  Hi there "
     "\n<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye "
     "<|im_end|><|im_end|>\n"},
    {"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
     "message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\\n' }}{% endif %}",
     2, true, "<|im_start|>assistant\n"},
    {"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
     "message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
     "'<|im_start|>assistant\\n' }}{% endif %}",
     2, false, ""},
    {"{%- for m in messages -%}\n  {%- if m.role == 'user' -%}\n    [U]{{ m.content | trim "
     "}}[/U]\n  {%- elif m.role == \"assistant\" -%}\n    {{- m.content -}}\n  {%- else -%}\n    "
     "({{ m['role'] }}: {{ m.content }})\n  {%- endif -%}\n{%- endfor -%}\n",
     0, true, "[U]Hi[/U]"},
    {"{%- for m in messages -%}\n  {%- if m.role == 'user' -%}\n    [U]{{ m.content | trim "
     "}}[/U]\n  {%- elif m.role == \"assistant\" -%}\n    {{- m.content -}}\n  {%- else -%}\n    "
     "({{ m['role'] }}: {{ m.content }})\n  {%- endif -%}\n{%- endfor -%}\n",
     1, true, "(system: Be brief.)[U]Hi there[/U]Hello![U]Bye <|im_end|>[/U]"},
    {"{%- for m in messages -%}\n  {%- if m.role == 'user' -%}\n    [U]{{ m.content | trim "
     "}}[/U]\n  {%- elif m.role == \"assistant\" -%}\n    {{- m.content -}}\n  {%- else -%}\n    "
     "({{ m['role'] }}: {{ m.content }})\n  {%- endif -%}\n{%- endfor -%}\n",
     2, true, ""},
    {"{% for m in messages %}\n    {% if loop.first %}\nfirst {{ loop.length }}\n    {% endif "
     "%}\n{{ loop.index0 }}/{{ loop.index }} {{ m.role }}\n{% if not loop.last %}\n---\n{% endif "
     "%}\n{% endfor %}\nend\n",
     0, true, "first 1\n0/1 user\nend"},
    {"{% for m in messages %}\n    {% if loop.first %}\nfirst {{ loop.length }}\n    {% endif "
     "%}\n{{ loop.index0 }}/{{ loop.index }} {{ m.role }}\n{% if not loop.last %}\n---\n{% endif "
     "%}\n{% endfor %}\nend\n",
     1, true, "first 4\n0/1 system\n---\n1/2 user\n---\n2/3 assistant\n---\n3/4 user\nend"},
    {"{% for m in messages %}\n    {% if loop.first %}\nfirst {{ loop.length }}\n    {% endif "
     "%}\n{{ loop.index0 }}/{{ loop.index }} {{ m.role }}\n{% if not loop.last %}\n---\n{% endif "
     "%}\n{% endfor %}\nend\n",
     2, true, "end"},
    {"{# a comment #}\n{% set system = 'none' %}\n{% if messages and messages[0].role == 'system' "
     "%}\n{% set system = messages[0]['content'] %}\n{% endif %}\nS={{ system }} L={{ "
     "messages|length }}\n\n",
     0, true, "S=none L=1\n"},
    {"{# a comment #}\n{% set system = 'none' %}\n{% if messages and messages[0].role == 'system' "
     "%}\n{% set system = messages[0]['content'] %}\n{% endif %}\nS={{ system }} L={{ "
     "messages|length }}\n\n",
     1, true, "S=Be brief. L=4\n"},
    {"{# a comment #}\n{% set system = 'none' %}\n{% if messages and messages[0].role == 'system' "
     "%}\n{% set system = messages[0]['content'] %}\n{% endif %}\nS={{ system }} L={{ "
     "messages|length }}\n\n",
     2, true, "S=none L=0\n"},
    {"{% set x = 1 %}{% for m in messages %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", 0, true,
     "21"},
    {"{% set x = 1 %}{% for m in messages %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", 1, true,
     "22221"},
    {"{% set x = 1 %}{% for m in messages %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", 2, true,
     "1"},
    {"{{ 'a' if messages else 'b' }}{{ 'c' if not messages }}{{ 1 + 2 }}{{ 7 % 3 }}{{ -7 % 3 }}{{ "
     "5 - 3 - 1 }}{{ 1 ~ 'x' ~ true }}{{ none }}{{ nothing }}",
     0, true, "a31211xTrueNone"},
    {"{{ 'a' if messages else 'b' }}{{ 'c' if not messages }}{{ 1 + 2 }}{{ 7 % 3 }}{{ -7 % 3 }}{{ "
     "5 - 3 - 1 }}{{ 1 ~ 'x' ~ true }}{{ none }}{{ nothing }}",
     1, true, "a31211xTrueNone"},
    {"{{ 'a' if messages else 'b' }}{{ 'c' if not messages }}{{ 1 + 2 }}{{ 7 % 3 }}{{ -7 % 3 }}{{ "
     "5 - 3 - 1 }}{{ 1 ~ 'x' ~ true }}{{ none }}{{ nothing }}",
     2, true, "bc31211xTrueNone"},
    {"{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}odd{% else "
     "%}even{% endif %},{% endfor %}",
     0, true, "even,"},
    {"{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}odd{% else "
     "%}even{% endif %},{% endfor %}",
     1, true, "odd,odd,odd,odd,"},
    {"{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}odd{% else "
     "%}even{% endif %},{% endfor %}",
     2, true, ""},
    {"{{ bos_token }}{% for m in messages %}{% if m.role in ['user', 'tool'] and m.content is "
     "defined and m.name is not defined %}{{ m.role | upper }}{% elif m.role not in ('assistant') "
     "or false %}?{% endif %}{% endfor %}{{ eos_token }}",
     0, true, "<s>USER</s>"},
    {"{{ bos_token }}{% for m in messages %}{% if m.role in ['user', 'tool'] and m.content is "
     "defined and m.name is not defined %}{{ m.role | upper }}{% elif m.role not in ('assistant') "
     "or false %}?{% endif %}{% endfor %}{{ eos_token }}",
     1, true, "<s>?USERUSER</s>"},
    {"{{ bos_token }}{% for m in messages %}{% if m.role in ['user', 'tool'] and m.content is "
     "defined and m.name is not defined %}{{ m.role | upper }}{% elif m.role not in ('assistant') "
     "or false %}?{% endif %}{% endfor %}{{ eos_token }}",
     2, true, "<s></s>"},
    {"{% for m in messages %}{{ m.content.strip() }}|{{ m.content.lstrip() }}|{{ "
     "m.content.rstrip() }}|{{ m.content.startswith('B') }}|{{ m.content|lower|length }};{% endfor "
     "%}",
     0, true, "Hi|Hi|Hi|False|2;"},
    {"{% for m in messages %}{{ m.content.strip() }}|{{ m.content.lstrip() }}|{{ "
     "m.content.rstrip() }}|{{ m.content.startswith('B') }}|{{ m.content|lower|length }};{% endfor "
     "%}",
     1, true,
     "Be brief.|Be brief.|Be brief.|True|9;Hi there|Hi there \n|  Hi "
     "there|False|12;Hello!|Hello!|Hello!|False|6;Bye <|im_end|>|Bye <|im_end|>|Bye "
     "<|im_end|>|True|14;"},
    {"{% for m in messages %}{{ m.content.strip() }}|{{ m.content.lstrip() }}|{{ "
     "m.content.rstrip() }}|{{ m.content.startswith('B') }}|{{ m.content|lower|length }};{% endfor "
     "%}",
     2, true, ""},
    {"x  {%- if true %}  y  {% endif -%}  z {{- ' q ' -}} w\n  {% if true %}\n  kept\n  {%+ if "
     "true %}plus{% endif %}\n  {% endif %}\ntail",
     0, true, "x  y  z q w\n  kept\n  plustail"},
    {"x  {%- if true %}  y  {% endif -%}  z {{- ' q ' -}} w\n  {% if true %}\n  kept\n  {%+ if "
     "true %}plus{% endif %}\n  {% endif %}\ntail",
     1, true, "x  y  z q w\n  kept\n  plustail"},
    {"x  {%- if true %}  y  {% endif -%}  z {{- ' q ' -}} w\n  {% if true %}\n  kept\n  {%+ if "
     "true %}plus{% endif %}\n  {% endif %}\ntail",
     2, true, "x  y  z q w\n  kept\n  plustail"},
    {"{{ messages[-1].role }}{{ messages[5] is defined }}{{ messages[0].role is string }}{{ none "
     "is none }}{{ \"q\\\"uo'te\\\\ \\t\" 'joined' }}",
     0, true, "userFalseTrueTrueq\"uo'te\\ \011joined"},
    {"{{ messages[-1].role }}{{ messages[5] is defined }}{{ messages[0].role is string }}{{ none "
     "is none }}{{ \"q\\\"uo'te\\\\ \\t\" 'joined' }}",
     1, true, "userFalseTrueTrueq\"uo'te\\ \011joined"},
    {"{{ 'b' > 'a' }}{{ 2 >= 3 }}{{ 'ab' in 'cabd' }}{{ not true or true and false }}{{ [1, 'a'] "
     "== [1, 'a'] }}{{ 1 == '1' }}{{ 'role' in messages[0] }}",
     0, true, "TrueFalseTrueFalseTrueFalseTrue"},
    {"{{ 'b' > 'a' }}{{ 2 >= 3 }}{{ 'ab' in 'cabd' }}{{ not true or true and false }}{{ [1, 'a'] "
     "== [1, 'a'] }}{{ 1 == '1' }}{{ 'role' in messages[0] }}",
     1, true, "TrueFalseTrueFalseTrueFalseTrue"},
    {"{{ 'b' > 'a' }}{{ 2 >= 3 }}{{ 'ab' in 'cabd' }}{{ not true or true and false }}{{ [1, 'a'] "
     "== [1, 'a'] }}{{ 1 == '1' }}{{ 'role' in messages[0] }}",
     2, true, "TrueFalseTrueFalseTrueFalseFalse"},
    {"a\n  b {# c #}\n  {# d #}\n{{ 'e' }}\n\nf", 0, true, "a\n  b e\n\nf"},
    {"a\n  b {# c #}\n  {# d #}\n{{ 'e' }}\n\nf", 1, true, "a\n  b e\n\nf"},
    {"a\n  b {# c #}\n  {# d #}\n{{ 'e' }}\n\nf", 2, true, "a\n  b e\n\nf"},
};

}  // namespace baton::reference
