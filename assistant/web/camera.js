// The dialog in which a picture is chosen: a file, or what the camera sees.

import { t } from "./texts.js";

const WANTED = { video: { facingMode: "environment", width: { ideal: 1280 } } };

export class PictureDialog {
  #dialog;
  #video;
  #take;
  #problem;
  #stream = null;

  // onPicture(source): a file, or the video while it plays.
  constructor(dialog, onPicture) {
    const find = (name) => dialog.querySelector(`[name=${name}]`);
    this.#dialog = dialog;
    this.#video = dialog.querySelector("video");
    this.#problem = dialog.querySelector("[role=alert]");
    this.#take = find("take");
    dialog.onclose = () => this.#stop();
    find("camera").onclick = () => this.#start();
    find("file").onchange = async ({ target }) => {
      const [file] = target.files;
      target.value = "";
      if (file) await onPicture(file);
      dialog.close();
    };
    this.#take.onclick = async () => {
      await onPicture(this.#video);
      dialog.close();
    };
  }

  open() {
    this.#problem.hidden = true;
    this.#dialog.showModal();
  }

  async #start() {
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia(WANTED);
    } catch (error) {
      this.#problem.textContent = t("error.camera", error.message);
      this.#problem.hidden = false;
      return;
    }
    if (!this.#dialog.open) return this.#stop();
    this.#video.srcObject = this.#stream;
    await this.#video.play();
    this.#video.hidden = this.#take.hidden = false;
    this.#take.focus();
  }

  #stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = this.#video.srcObject = null;
    this.#video.hidden = this.#take.hidden = true;
  }
}
