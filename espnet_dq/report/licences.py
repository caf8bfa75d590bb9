"""The licence texts that go along with what is passed on: MIT asks for its notice in each copy."""

NAME = "LICENSE"  # what the Hub looks for
_MIT = """\
MIT License

Copyright (c) {holder}

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
# Of a folder with a model. Its vocabulary is Whisper's, whatever weights it began with.
MODEL = f"""\
What the model has from OpenAI's Whisper, vocabulary or weights, is under this licence. What else it
was made from, its model card (README.md) names, where there is one.

{_MIT.format(holder="2022 OpenAI")}"""
# Of a page for browsers, beside `MODEL`. transformers.js brings its own.
PAGE = f"""\
{MODEL}
--------
In runtime, ort*: ONNX Runtime.

{_MIT.format(holder="Microsoft Corporation")}
--------
In runtime, transformers*: transformers.js. It and the page itself, of espnet_dq, are under
Apache-2.0, which is in runtime/LICENSE.transformers.
"""
