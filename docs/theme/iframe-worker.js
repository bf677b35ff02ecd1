// Search runs in a worker. Where pages are opened as files, browsers start none: a hidden frame takes its place.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<html><body></body></html>"
      this.frame = new Promise(resolve => {
        frame.onload = () => {
          frame.onload = null
          const inner = frame.contentWindow
          const document = frame.contentDocument
          inner.postMessage = data => {
            const event = new MessageEvent("message", { data })
            this.dispatchEvent(event)
            this.onmessage?.(event)
          }
          inner.importScripts = (...urls) =>
            urls.reduce((before, src) => before.then(() => this.run(document, src)), Promise.resolve())
          this.run(document, url).then(() => resolve(inner))
        }
      })
      document.body.append(frame)
      this.terminate = () => frame.remove()
    }

    run(document, src) {
      return new Promise((resolve, reject) => {
        const script = Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject })
        document.body.append(script)
      })
    }

    postMessage(data) {
      this.frame.then(inner => inner.dispatchEvent(new inner.MessageEvent("message", { data })))
    }
  }
}
