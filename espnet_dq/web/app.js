// The page: loads the model that lies beside it, and transcribes in this browser, in one thread.
import { env, pipeline, WhisperTextStreamer } from "./runtime/transformers.web.min.js";

const RATE = 16000; // samples a second
const $ = (id) => document.getElementById(id);

// What the page does: loading, ready, asking (for the microphone), recording, working, or failed.
// What may be used follows from it, and from nothing else.
let state = "loading";
let found = null; // the last text, and its pieces with times

function enter(next, said) {
  state = document.body.dataset.state = next;
  const free = state === "ready";
  $("loading").hidden = state !== "loading";
  $("file").disabled = !free;
  // Browsers give the microphone only to localhost and to https.
  $("record").disabled = !navigator.mediaDevices || !(free || state === "recording");
  $("record").textContent = state === "recording" ? "Stop" : "Record";
  $("txt").disabled = !free || !found;
  $("srt").disabled = !free || !found?.chunks;
  $("status").textContent = said;
}

const why = (what, error) => `${what}: ${error?.message ?? error}`;

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
try {
  transcribe = await pipeline("automatic-speech-recognition", "model", {
    dtype: about.dtype,
    device: "wasm",
    progress_callback: progress,
  });
  enter("ready", "Ready.");
} catch (error) {
  enter("failed", why("The model cannot be loaded", error));
}

async function facts() {
  try {
    return await (await fetch("about.json")).json();
  } catch (error) {
    enter("failed", why("about.json cannot be read", error));
    throw error;
  }
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
  found = null;
  $("text").textContent = $("took").textContent = "";
  enter("working", `${name}: reading …`);
  try {
    const audio = await samples(blob);
    enter("working", `${name}: ${(audio.length / RATE).toFixed(1)} s, transcribing …`);
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
    enter("ready", "Ready.");
  } catch (error) {
    enter("ready", why(name, error));
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

function take(files) {
  if (state !== "ready") return;
  if (files.length === 1) hear(files[0], files[0].name);
  else enter("ready", "One file at a time.");
}

$("file").onchange = ({ target }) => {
  const files = [...target.files];
  target.value = ""; // the same one may be chosen again
  if (files.length) take(files);
};
// Beside the box the browser would open the file in the place of this page.
window.ondragover = window.ondrop = (event) => event.preventDefault();
const drop = $("drop");
drop.ondragover = (event) => {
  event.preventDefault();
  const free = state === "ready";
  event.dataTransfer.dropEffect = free ? "copy" : "none"; // with which nothing is dropped
  drop.classList.toggle("over", free);
};
drop.ondragleave = () => drop.classList.remove("over");
drop.ondrop = (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
};

let stop; // the recording

$("record").onclick = async () => {
  if (state === "recording") return stop();
  if (state !== "ready") return; // the browser asks whoever sits there: not a second time
  enter("asking", "Waiting for the microphone …");
  let spoken;
  try {
    spoken = await recorded();
  } catch (error) {
    return enter("ready", why("The microphone cannot be used", error));
  }
  await hear(spoken, "recording");
};

async function recorded() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  try {
    const recorder = new MediaRecorder(stream);
    const parts = [];
    const ended = new Promise((resolve, reject) => {
      recorder.ondataavailable = ({ data }) => parts.push(data);
      recorder.onstop = resolve;
      recorder.onerror = ({ error, type }) => reject(error ?? type);
    });
    recorder.start();
    stop = () => {
      enter("working", "recording: reading …"); // what is stopped cannot be stopped again
      recorder.stop();
    };
    enter("recording", "Recording …");
    await ended;
    return new Blob(parts, { type: recorder.mimeType });
  } finally {
    for (const track of stream.getTracks()) track.stop(); // the light goes out
  }
}
