"""Pictures take the page's colours, keep to themselves, and hide no script."""

import re

import pytest

from lvdecode.report import style


def picture(title='title', colour=style.COLOURS[0]):
  drawn, axes = style.canvas(title, 'across', 'up')
  axes.plot([1, 2], [3, 4], color=colour, marker='o', label='line')
  style.legend(drawn)
  return drawn


def identifiers(svg):
  return set(re.findall(r'id="([^"]+)"', svg))


@pytest.mark.parametrize('number', range(len(style.COLOURS)))
def test_colours_are_those_of_the_page(number):
  svg = style.svg(picture(colour=style.COLOURS[number]))
  assert f'stroke: var(--c{number})' in svg
  assert 'fill: var(--ink)' in svg and 'stroke: var(--line)' in svg
  assert style.COLOURS[number] not in svg


def test_every_colour_of_a_picture_is_defined_by_the_page():
  css = (style.TEMPLATE / 'page.css').read_text()
  used = set(re.findall(r'var\(--(\w+)\)', style.svg(picture())))
  for name in used | {'rest'}:
    # In light and in dark.
    assert css.count(f'--{name}:') == 2, name


def test_the_same_picture_is_the_same_string():
  assert style.svg(picture()) == style.svg(picture())


def test_two_pictures_share_no_identifier():
  one, other = style.svg(picture('one')), style.svg(picture('other'))
  assert identifiers(one) and not identifiers(one) & identifiers(other)
  for svg in (one, other):
    named = set(re.findall(r'(?:href="|url\()#([\w-]+)', svg))
    assert named and named <= identifiers(svg)


def test_text_stays_text_and_is_escaped():
  svg = style.svg(picture('a <script> & b'))
  assert 'a &lt;script&gt; &amp; b' in svg
  assert '<script' not in svg


def test_a_picture_asks_for_nothing_from_elsewhere():
  svg = style.svg(picture())
  assert svg.startswith('<svg') and svg.endswith('</svg>')
  assert not re.search(r'(href|src)="(?!#)', svg)
