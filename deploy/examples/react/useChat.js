// A React hook for a conversation with a chatflow behind the gateway.
//
//   const { messages, ask, stop, isBusy } = useChat({ host: 'https://chat.example.com', flow: 'support', token })
//
// token: a session token of the gateway for this user; left out on a public route.
import { useCallback, useEffect, useRef, useState } from 'react'

async function* eventsOf(response) {
    const text = response.body.pipeThrough(new TextDecoderStream()).getReader()
    for (let rest = ''; ;) {
        const { done, value } = await text.read()
        if (done) return
        const parts = (rest + value).split('\n\n') // an event ends with an empty line
        rest = parts.pop()
        for (const part of parts) {
            const data = part.split('\n').find((line) => line.startsWith('data:'))
            if (data) yield JSON.parse(data.slice(5))
        }
    }
}

export function useChat({ host, flow, token }) {
    const [messages, setMessages] = useState([]) // {role: 'user' or 'bot', text, error}
    const [isBusy, setBusy] = useState(false)
    const chat = useRef(undefined)
    const request = useRef(undefined)
    const stop = useCallback(() => request.current?.abort(), []) // the gateway aborts the run
    useEffect(() => stop, [stop])

    const ask = useCallback(
        async (question) => {
            const own = (request.current = new AbortController())
            const extend = (more, error) =>
                setMessages((all) => [...all.slice(0, -1), { role: 'bot', text: all.at(-1).text + more, error }])
            setMessages((all) => [...all, { role: 'user', text: question }, { role: 'bot', text: '' }])
            setBusy(true)
            try {
                const response = await fetch(`${host}/api/v1/prediction/${flow}`, {
                    method: 'POST',
                    signal: own.signal,
                    headers: { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) },
                    body: JSON.stringify({ question, chatId: chat.current, streaming: true })
                })
                if (!response.ok) throw new Error((await response.json()).message)
                for await (const { event, data } of eventsOf(response)) {
                    if (event === 'token') extend(data)
                    if (event === 'metadata') chat.current = data.chatId
                    if (event === 'error') throw new Error(data)
                }
            } catch (error) {
                if (!own.signal.aborted) extend('', error.message)
            } finally {
                setBusy(false)
            }
        },
        [host, flow, token]
    )
    return { messages, ask, stop, isBusy }
}
