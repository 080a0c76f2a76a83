// Values as text. Nothing here, and nothing on the page, is ever read as markup: it is set as `textContent`.

// controls, separators, and what is invisible or changes the direction of text: shown by their code points
const DECEPTIVE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g
const codePoint = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`

export const plain = (value) => (value === null || value === undefined ? '' : String(value).replace(DECEPTIVE, codePoint))

export const count = (value) => (value ?? 0).toLocaleString('en')

export const ofAll = (shown, all, many, one = many) => `${shown < all ? `${count(shown)} of ` : ''}${count(all)} ${all === 1 ? one : many}`

export function seconds(value) {
  if (value === null || value === undefined) return ''
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`
  if (Number.isInteger(value) && value < 60) return `${value} s`
  if (value < 60) return `${value.toFixed(value < 10 ? 2 : 1)} s`
  const minutes = Math.floor(value / 60)
  const rest = Math.floor(value % 60)
  if (minutes < 60) return `${minutes} min ${rest} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

export const bytes = (value) => (value === null || value === undefined ? '' : `${(value / 1048576).toFixed(1)} MiB`)

export const percent = (share) => (share === null || share === undefined ? '' : `${(share * 100).toFixed(1)} %`)

export const clock = (epoch) => (epoch ? new Date(epoch * 1000).toLocaleTimeString('en-GB') : '')

export const date = (epoch) => (epoch ? `${new Date(epoch * 1000).toLocaleDateString('en-CA')} ${clock(epoch)}` : '')

// how an outcome of the log is drawn and coloured
export const KINDS = ['ok', 'refused', 'left', 'failed']
export const kindOf = (outcome) =>
  ({ ok: 'ok', empty: 'ok', refused: 'refused', client_closed: 'left' })[outcome] ?? 'failed'
