// The page: loads the model that lies beside it, and transcribes in this browser, in one thread.
import { env, pipeline, WhisperTextStreamer } from "./runtime/transformers.web.min.js";

const RATE = 16000; // samples a second
const $ = (id) => document.getElementById(id);
const about = await facts();

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = "./"; // no whole address: files at one are not looked for
env.useBrowserCache = false; // a new model at the same address would not be seen
env.backends.onnx.wasm.wasmPaths = {
  mjs: new URL("runtime/ort-wasm-simd-threaded.js", import.meta.url).href,
  wasm: new URL("runtime/ort-wasm-simd-threaded.wasm", import.meta.url).href,
};
env.backends.onnx.wasm.numThreads = 1; // more need headers that a plain server does not send

document.title = about.title;
$("title").textContent = about.title;
$("about").textContent = about.about;
for (const [code, name] of about.languages) $("language").add(new Option(name, code));
$("language").parentElement.hidden = !about.multilingual; // which is told none

const sizes = new Map();
function progress({ file, loaded, total, status }) {
  if (status !== "progress" || !total) return;
  sizes.set(file, [loaded, total]);
  const [sum, all] = [...sizes.values()].reduce(([a, b], [x, y]) => [a + x, b + y], [0, 0]);
  $("loading").value = sum / Math.max(all, about.bytes);
}

let transcribe;
let found = null; // the last text, and its pieces with times
try {
  transcribe = await pipeline("automatic-speech-recognition", "model", {
    dtype: about.dtype,
    device: "wasm",
    progress_callback: progress,
  });
  ready("Ready.");
} catch (error) {
  failed("The model cannot be loaded", error);
}

function ready(said) {
  $("loading").hidden = true;
  $("status").textContent = said;
  document.body.dataset.state = "ready";
  $("file").disabled = false;
  // Browsers give the microphone only to localhost and to https.
  $("record").disabled = !navigator.mediaDevices;
}

async function facts() {
  try {
    return await (await fetch("about.json")).json();
  } catch (error) {
    failed("about.json cannot be read", error);
    throw error;
  }
}

function failed(what, error) {
  $("loading").hidden = true;
  $("status").textContent = `${what}: ${error.message ?? error}`;
  document.body.dataset.state = "failed";
}

async function samples(blob) {
  // decodeAudioData resamples to the context's rate, and reads what the browser reads.
  const context = new OfflineAudioContext(1, 1, RATE);
  const audio = await context.decodeAudioData(await blob.arrayBuffer());
  const mono = new Float32Array(audio.length);
  for (let c = 0; c < audio.numberOfChannels; c++) {
    const channel = audio.getChannelData(c);
    for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / audio.numberOfChannels;
  }
  return mono;
}

async function hear(blob, name) {
  document.body.dataset.state = "working";
  for (const id of ["file", "record", "txt", "srt"]) $(id).disabled = true;
  $("text").textContent = $("took").textContent = "";
  try {
    $("status").textContent = `${name}: reading …`;
    const audio = await samples(blob);
    $("status").textContent = `${name}: ${(audio.length / RATE).toFixed(1)} s, transcribing …`;
    await new Promise((next) => setTimeout(next)); // let the line be seen
    const started = performance.now();
    const streamer = new WhisperTextStreamer(transcribe.tokenizer, {
      callback_function: (piece) => ($("text").textContent += piece),
      skip_special_tokens: true,
    });
    const options = { streamer, chunk_length_s: about.window, return_timestamps: $("times").checked };
    if (about.multilingual) Object.assign(options, { language: $("language").value, task: "transcribe" });
    const result = await transcribe(audio, options);
    found = { text: result.text.trim(), chunks: result.chunks, name, length: audio.length / RATE };
    $("text").textContent = found.text;
    const seconds = (performance.now() - started) / 1000;
    $("took").textContent = `${seconds.toFixed(1)} s for ${(audio.length / RATE).toFixed(1)} s of audio`;
    $("txt").disabled = false;
    $("srt").disabled = !found.chunks;
    ready("Ready.");
    document.body.dataset.state = "done";
  } catch (error) {
    ready("");
    failed(name, error);
  }
}

function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

const stem = () => found.name.replace(/\.[^.]*$/, "") || "text";
$("txt").onclick = () => save(`${found.text}\n`, `${stem()}.txt`);
$("srt").onclick = () => save(subtitles(found.chunks, found.length), `${stem()}.srt`);

function subtitles(chunks, length) {
  const time = (seconds) => {
    const ms = Math.round(seconds * 1000);
    const part = (value, digits) => String(Math.floor(value)).padStart(digits, "0");
    return `${part(ms / 3600000, 2)}:${part((ms / 60000) % 60, 2)}:${part((ms / 1000) % 60, 2)},${part(ms % 1000, 3)}`;
  };
  // The model hears a window that is full: it may set a time behind the end, or none (null).
  const within = (seconds) => Math.min(seconds ?? length, length);
  return chunks
    .filter(({ text }) => text.trim())
    .map(({ timestamp, text }, i) => {
      const [start, end] = timestamp.map(within);
      const shown = end - start < 0.01 ? start + 0.5 : end; // else nobody would see it
      // An empty line would end the cue.
      return `${i + 1}\n${time(start)} --> ${time(shown)}\n${text.trim().replace(/\s+/g, " ")}\n`;
    })
    .join("\n");
}

$("file").onchange = ({ target }) => {
  const [file] = target.files;
  target.value = ""; // the same one may be chosen again
  if (file) hear(file, file.name);
};
// Beside the box the browser would open the file in the place of this page.
window.ondragover = window.ondrop = (event) => event.preventDefault();
const drop = $("drop");
drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
drop.ondragleave = () => drop.classList.remove("over");
drop.ondrop = (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && !$("file").disabled) hear(file, file.name);
};

let recorder = null;
let asked = false; // the browser asks whoever sits there: a second click must not ask again
$("record").onclick = async () => {
  if (recorder) return recorder.stop();
  if (asked) return;
  asked = true;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      for (const track of stream.getTracks()) track.stop();
      const { mimeType } = recorder;
      recorder = null;
      $("record").textContent = "Record";
      hear(new Blob(parts, { type: mimeType }), "recording");
    };
    recorder.start();
    $("file").disabled = true; // nor is one taken that is dropped: the recording comes first
    $("record").textContent = "Stop";
    $("status").textContent = "Recording …";
  } catch (error) {
    failed("The microphone cannot be used", error);
  } finally {
    asked = false;
  }
};
