"""How every mail looks: one HTML page that needs no image, no script and no web font.

Mail programs know little CSS, so layout is tables and inline styles. Colours stand inline for the
light form; where a program follows `prefers-color-scheme` the style sheet turns them (hence the
`!important`), and where it inverts by itself `color-scheme` tells it that both are meant. On a
narrow screen the margins shrink and a fact's value goes below its label.
"""

_FIGURES = """{% macro figures() %}{% if filled is not none %}\
<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="margin:0 0 16px">\
<tr><td class="bar" style="background:#d8dde4;border-radius:4px;font-size:0;line-height:0">\
{% if filled %}<div class="used" style="width:{{ filled }}%;height:8px;background:#0b5cad;\
border-radius:4px"></div>{% else %}<div style="height:8px"></div>{% endif %}</td></tr></table>
{% endif %}{% if facts %}<table width="100%" cellpadding="0" cellspacing="0" \
style="margin:0 0 24px;border-collapse:collapse;font-size:15px">
{% for label, value in facts %}<tr>\
<th class="label" scope="row" style="width:38%;padding:8px 12px 8px 0;border-top:1px solid #d8dde4;\
color:#5b6675;font-weight:normal;text-align:left;vertical-align:top">{{ label }}</th>\
<td class="value" style="padding:8px 0;border-top:1px solid #d8dde4;color:#1d2733;\
vertical-align:top">{{ value }}</td></tr>
{% endfor %}</table>
{% endif %}{% endmacro %}"""

HTML = (
    _FIGURES
    + """<!doctype html>
<html lang="{{ language }}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>{{ subject }}</title>
<style>
:root { color-scheme: light dark; supported-color-schemes: light dark }
@media (max-width: 480px) {
  .page { padding: 0 !important }
  .card { padding: 24px 16px !important; border-radius: 0 !important }
  .label, .value { display: block !important; width: auto !important }
  .label { padding-bottom: 0 !important }
  .value { border-top: 0 !important; padding-top: 0 !important }
}
@media (prefers-color-scheme: dark) {
  .page { background: #12161c !important }
  .card { background: #1d232c !important; color: #e8ebef !important }
  .label, .footer { color: #a4adba !important }
  .label, .value, .footer { border-color: #39424f !important }
  .value { color: #e8ebef !important }
  .bar { background: #39424f !important }
  .used { background: #6cb2ff !important }
  .button { background: #6cb2ff !important; color: #10151b !important }
}
</style></head>
<body class="page" style="margin:0;padding:24px;background:#f4f5f7;\
font-family:Arial,Helvetica,sans-serif">
<div class="card" style="max-width:560px;margin:0 auto;padding:32px;background:#ffffff;\
border-radius:8px;color:#1d2733;font-size:16px;line-height:1.5;overflow-wrap:anywhere">
<h1 style="margin:0 0 16px;font-size:20px;line-height:1.3">{{ subject }}</h1>
{% for line in lines %}{% if loop.index == 2 %}{{ figures() }}{% endif %}\
<p style="margin:0 0 16px;white-space:pre-line">{{ line }}</p>
{% endfor %}{% if lines|length == 1 %}{{ figures() }}{% endif %}\
{% if url %}<p style="margin:24px 0 0"><a class="button" href="{{ url }}" \
style="display:inline-block;padding:12px 20px;background:#0b5cad;color:#ffffff;border-radius:6px;\
text-decoration:none;font-weight:bold">{{ link }}</a></p>
{% endif %}{% if footer %}<p class="footer" style="margin:32px 0 0;padding-top:16px;\
border-top:1px solid #d8dde4;color:#5b6675;font-size:13px">{{ footer }}</p>
{% endif %}</div></body></html>
"""
)
