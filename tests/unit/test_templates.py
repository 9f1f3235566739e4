"""Go templates, as `--format` takes them; what they give was seen with Docker's own command."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specrun.cli.templates import TemplateError, render, render_rows

VALUE = {
    "Id": "8c1b926b6660530e",
    "Name": "/c1",
    "Args": ["a", "b"],
    "State": {"Status": "exited", "Pid": 7, "ExitCode": 0, "Running": True},
    "Config": {"Env": ["X=1", "PATH=/bin"], "Labels": {"k": "v"}, "Entrypoint": None, "Volumes": None},
    "HostConfig": {"CapAdd": None, "PidsLimit": None, "LogConfig": {"Type": "json-file", "Config": {}}},
    "Mounts": [{"Type": "bind", "Source": "/a", "RW": True}],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.State.Pid}}", "7"),
        ("{{json .Args}} {{json .State}}", '["a","b"] {"Status":"exited","Pid":7,"ExitCode":0,"Running":true}'),
        ("{{.Args}} {{.Config.Labels}} {{.State}}", "[a b] map[k:v] {exited 7 0 true}"),
        ('{{join .Args ","}} {{split .Name "c"}} {{title .State.Status}} {{lower "ABC"}}', "a,b [/ 1] Exited abc"),
        ('{{slice .Id 0 12 | len}} {{slice .Name 1}} {{truncate .Name 2}} {{pad "x" 1 2}}|', "12 c1 /c  x  |"),
        ("{{range .Args}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $v := .Args}}{{$i}}={{$v}};{{end}}", "0=a;1=b;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}", "k=v"),
        ("{{range .Config.Volumes}}x{{else}}none{{end}}", "none"),
        ("{{range .Args}}{{if eq . `b`}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .Args}}{{if eq . `a`}}{{continue}}{{end}}{{.}}{{end}}", "b"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if eq .State.Pid 8}}8{{else if eq .State.Pid 7}}7{{else}}?{{end}}", "7"),
        ("{{if and .State.Running (eq .State.ExitCode 0)}}y{{else}}n{{end}}", "y"),
        ('{{index .Config.Labels "k"}} {{index .Config.Env 0}} {{index .Config.Labels "q"}}|', "v X=1 |"),
        ("{{.Config.Labels.q}}|{{.Config.Labels.k}}", "<no value>|v"),
        ("{{with .State}}{{.Pid}}{{end}}{{with .Config.Volumes}}x{{else}}n{{end}}", "7n"),
        ('{{.Name | upper | printf "%s!"}}', "/C1!"),
        ("a {{- .State.Pid -}} b", "a7b"),
        ('{{/* a remark */}}x {{- "y" -}} z', "xyz"),
        ("{{println .State.Status .State.ExitCode}}", "exited 0\n"),
        ("{{print .State.Status .State.ExitCode 1 2}}", "exited0 1 2"),
        ('{{printf "%q %d %5s|%-5s|%v %T %x %t %%" "e" 0 "a" "b" .Args .Args 255 true}}',
         '"e" 0     a|b    |[a b] []string ff true %'),
        ('{{printf "%d" "x"}} {{printf "%s"}} {{printf "x" 1}}', "%!d(string=x) %!s(MISSING) x%!(EXTRA int=1)"),
        ("{{len .Args}} {{len .Name}} {{not .Config.Volumes}}", "2 3 true"),
        ("{{ne 1 2}} {{lt 1 2}} {{ge 2 2}} {{and 1 0}} {{or 0 2}} {{eq 1 2 1}}", "true true true 0 2 true"),
        ("{{$x := .State}}{{$x.Pid}} {{$x = .Name}}{{$x}} {{$.Name}}", "7 /c1 /c1"),
        ("{{.Config.Entrypoint}} {{.HostConfig.CapAdd}} {{json .HostConfig.CapAdd}} {{.HostConfig.PidsLimit}}",
         "[] [] null <nil>"),
        ("{{.Config.Volumes}} {{.HostConfig.LogConfig}} {{.State.Health}} {{.SizeRw}}",
         "map[] {json-file map[]} <nil> <nil>"),
        ("{{range .Mounts}}{{.Name}}|{{.Type}}{{end}}", "|bind"),
        ('{{html "<a>"}} {{js "a\\""}} {{urlquery "a b"}}', '&lt;a&gt; a\\" a+b'),
        ("{{1.5}} {{true}} {{0x10}} {{1_000}} {{'a'}} {{\"a\\tb\"}}", "1.5 true 16 1000 97 a\tb"),
        ('{{define "x"}}A{{.}}{{end}}{{template "x" .Name}}', "A/c1"),
        ('{{json "<&>"}}', '"\\u003c\\u0026\\u003e"'),
        ("{{(index .Mounts 0).Source}}", "/a"),
        ("{{trim `  a `}}|", "a|"),
    ],
)  # fmt: skip
def test_templates_are_go_s(template: str, text: str) -> None:
    assert render(template, VALUE) == text


@pytest.mark.parametrize(
    ("template", "message", "column", "status"),
    [
        ("{{.Nosuch}}", 'executing "" at <.Nosuch>: map has no entry for key "Nosuch"', 3, 1),
        ("{{.State.Foo}}", 'executing "" at <.State.Foo>: map has no entry for key "Foo"', 9, 1),
        ("{{.Name.Foo}}", 'executing "" at <.Name.Foo>: can\'t evaluate field Foo in type string', 8, 1),
        ("{{index .Config.Env 10}}", "at <index .Config.Env 10>: error calling index: index out of range: 10", 3, 1),
        ('{{index .Args "x"}}', "error calling index: cannot index slice/array with type string", 3, 1),
        ("{{len 3}}", 'executing "" at <len 3>: error calling len: len of type int', 3, 1),
        ("{{eq .Name 1}}", "error calling eq: incompatible types for comparison", 3, 1),
        ("{{range .Name}}{{end}}", 'executing "" at <.Name>: range can\'t iterate over /c1', 9, 1),
        ("{{call 1}}", "error calling call: non-function of type int", 3, 1),
        ("{{join .Args}}", "wrong number of args for join: want 2 got 1", 3, 1),
        ("{{$y}}", 'undefined variable "$y"', 3, 1),
        ("{{nosuch .}}", 'function "nosuch" not defined', 3, 64),
        ("x {{.State | foo}}", 'function "foo" not defined', 14, 64),
        ("{{.State", "unclosed action", 9, 64),
        ("{{if .}}", "unexpected EOF", 9, 64),
        ("{{if}}x{{end}}", "missing value for if", 5, 64),
        ("{{end}}", "unexpected {{end}}", 3, 64),
        ("{{else}}", "unexpected {{else}}", 3, 64),
        ("{{}}", "missing value for command", 3, 64),
        ("{{.Name | }}", "missing value for command", 11, 64),
        ('{{"x}}', "unterminated quoted string", 3, 64),
        ("{{nil}}", "nil is not a command", 3, 1),
        ("{{)}}", "unexpected right paren", 3, 64),
        ("{{break}}", "{{break}} outside {{range}}", 3, 64),
        ("{{/* x }}", "unclosed comment", 3, 64),
        ("a\n{{.Name;}}", "unexpected ';' in the action", 8, 64),
    ],
)
def test_a_bad_template_says_where(template: str, message: str, column: int, status: int) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, VALUE)
    assert message in caught.value.message
    assert caught.value.place is not None
    assert caught.value.place.column == column
    assert caught.value.place.line == template[: template.find("{{")].count("\n") + 1
    assert caught.value.exit_status == status


def test_a_misspelt_field_is_told_its_neighbour() -> None:
    with pytest.raises(TemplateError) as caught:
        render("{{.State.Statsu}}", VALUE)
    assert caught.value.hint == "did you mean .Status?"


def test_a_table_has_headings() -> None:
    rows = [{"ID": "1", "Name": "x"}]
    headings = {"ID": "CONTAINER ID", "Name": "NAMES"}
    assert render_rows(r"table {{.ID}}\t{{.Name}}", rows, headings) == "CONTAINER ID   NAMES\n1              x\n"
    assert render_rows("table {{.Name}}|{{upper .ID}}", rows, headings) == "NAMES|CONTAINER ID\nx|1\n"
    assert render_rows("table {{.Name}}", [], headings) == "NAMES\n"
    assert render_rows("{{json .}}", rows, headings) == '{"ID":"1","Name":"x"}\n'


PIECES = st.sampled_from(
    '{{ }} {{- -}} . .Name .State.Pid $x := = | ( ) , if else end range with json len index eq 1 -2 0x "a" ` \' nil '
    "define template break /* */ printf é \\".split()
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=14).map(" ".join))
def test_whatever_is_written_is_rendered_or_refused_by_place(template: str) -> None:
    try:
        render(template, VALUE)
    except TemplateError as error:
        assert error.place is not None and error.message
