import { useState } from 'react'
import { useChat } from './useChat.js'

export function Chat(settings) {
    const { messages, ask, stop, isBusy } = useChat(settings)
    const [question, setQuestion] = useState('')
    const send = (sent) => {
        sent.preventDefault()
        if (isBusy || !question) return // one run at a time in a conversation
        ask(question)
        setQuestion('')
    }
    return (
        <form onSubmit={send}>
            {messages.map(({ role, text, error }, at) => (
                <p key={at} className={role}>{text}{error && <em> {error}</em>}</p>
            ))}
            <input value={question} onChange={(typed) => setQuestion(typed.target.value)} placeholder="Ask something" />
            {isBusy ? <button key="stop" type="button" onClick={stop}>Stop</button> : <button key="send">Send</button>}
        </form>
    )
}
